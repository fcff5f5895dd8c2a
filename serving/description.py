"""The OpenAPI document of the app. FastAPI describes every answer as JSON; errors are problem documents (RFC 9457)."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.problems import MEDIA_TYPE

_JSON = "application/json"


def describe_problems(app: FastAPI) -> None:
    """Have the app's OpenAPI document give errors the media type that they are sent with."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    if status >= "4" and _JSON in response["content"]:
                        response["content"][MEDIA_TYPE] = response["content"].pop(_JSON)
        return document

    app.openapi = described  # type: ignore[method-assign]
