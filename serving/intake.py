"""From a request's body to encoded images: JSON with base64, multipart, or one image as it is."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from lmeraser.errors import UndecodableImageError
from serving.schemas import PredictRequest

EncodedImage = bytes | UndecodableImageError

REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": PredictRequest.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@dataclass(frozen=True)
class Asked:
    """What a request to predict holds.

    Attributes:
        images: in order; an error in the place of one that is not base64.
        specialist_weight: λ, where the request names it.
    """

    images: list[EncodedImage]
    specialist_weight: float | None = None


async def asked_of(request: Request, max_images: int) -> Asked:
    """Read a request's body.

    Raises:
        RequestValidationError: when the body is not what its content type says, or holds no image.
        HTTPException: 413 when there are more than ``max_images``; 415 for another content type.
    """
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    weight = None
    images: list[EncodedImage]
    if content_type == "application/json":
        parsed = _parsed(await request.body())
        images = [_from_base64(text) for text in parsed.images]
        weight = parsed.specialist_weight
    elif content_type.startswith("image/"):
        images = [await request.body()]
    elif content_type == "multipart/form-data":
        async with request.form(max_files=max_images + 1, max_fields=max_images) as form:
            images = [await part.read() for part in form.getlist("images") if isinstance(part, UploadFile)]
        if not images:
            raise RequestValidationError([{"loc": ("body", "images"), "msg": "no file was sent under this name"}])
    else:
        raise HTTPException(
            415, f"the content type is {content_type!r}; allowed is application/json, multipart/form-data, image/*"
        )
    if len(images) > max_images:
        raise HTTPException(413, f"{len(images)} images in one request; at most {max_images} are allowed")
    return Asked(images, weight)


def _parsed(body: bytes) -> PredictRequest:
    try:
        return PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from error


def _from_base64(text: str) -> EncodedImage:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        return UndecodableImageError(f"the image is not base64: {error}")
