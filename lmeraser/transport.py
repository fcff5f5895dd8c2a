"""From calls to HTTP requests and back, for both clients."""

from __future__ import annotations

import os
from typing import Any

import httpx2

from lmeraser.calls import Answer, Call
from lmeraser.errors import ConfigError

API_KEY_VARIABLE = "LMERASER_API_KEY"


def checked_url(base_url: str) -> str:
    """The address of a service.

    Raises:
        ConfigError: when it has no scheme.
    """
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"the service's address is {base_url!r}; allowed is http://HOST:PORT or https://HOST")
    return base_url


def authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the API key, or else that of the environment; empty where there is none.

    Raises:
        ConfigError: when it cannot be a key.
    """
    key = api_key or os.environ.get(API_KEY_VARIABLE)
    if not key:
        return {}
    if not (key.isascii() and key.isprintable() and " " not in key):
        # Without the key itself: it may be a real one with a line break behind it.
        raise ConfigError(f"the API key ({API_KEY_VARIABLE}) holds blanks, line breaks or other signs that no key has")
    return {"Authorization": f"Bearer {key}"}


def request_arguments(call: Call) -> dict[str, Any]:
    """What the HTTP library needs besides method and path."""
    return {"headers": dict(call.headers), **({} if call.body is None else {"json": call.body})}


def answer_of(response: httpx2.Response) -> Answer:
    """What came back."""
    return Answer(
        response.status_code, response.text, {name.lower(): value for name, value in response.headers.items()}
    )


def no_answer(error: httpx2.TransportError) -> Answer:
    """That nothing came back, and why."""
    return Answer(0, f"no answer ({type(error).__name__}: {error})")
