"""From the body of a predict request to encoded images: JSON with base64, multipart, or one raw image."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from dataclasses import dataclass

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from lmeraser.errors import UndecodableImageError
from serving.schemas import PredictRequest

EncodedImage = bytes | UndecodableImageError

_DATA_URL = re.compile(r"\s*data:[^,]{0,255};base64,", re.IGNORECASE)
_ONE_ALPHABET = {ord("-"): "+", ord("_"): "/"} | dict.fromkeys(map(ord, " \t\r\n\f\v"))

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
class PredictInput:
    """The content of a predict request.

    Attributes:
        images: in order; an error in place of an image that is not base64.
        specialist_weight: λ; None when the request does not give it.
    """

    images: list[EncodedImage]
    specialist_weight: float | None = None


def is_one_image(request: Request) -> bool:
    """Whether the body is one raw image."""
    return _content_type(request).startswith("image/")


async def read_predict_input(request: Request, max_images: int) -> PredictInput:
    """Read a request's body.

    Raises:
        RequestValidationError: when the body is not what its content type says, or holds no image.
        HTTPException: 413 when there are more than ``max_images``; 415 for another content type.
    """
    content_type = _content_type(request)
    weight = None
    images: list[EncodedImage]
    if content_type == "application/json":
        parsed = _parsed(await request.body())
        images = [_from_base64(text) for text in parsed.images]
        weight = parsed.specialist_weight
    elif is_one_image(request):
        images = [await request.body()]
    elif content_type == "multipart/form-data":
        async with request.form(max_files=max_images + 1, max_fields=max_images) as form:
            images = [await part.read() for part in form.getlist("images") if isinstance(part, UploadFile)]
        if not images:
            raise RequestValidationError([{"loc": ("body", "images"), "msg": "no file with this field name was sent"}])
    else:
        raise HTTPException(
            415, f"the content type is {content_type!r}; allowed are application/json, multipart/form-data and image/*"
        )
    if len(images) > max_images:
        raise HTTPException(413, f"{len(images)} images in one request; at most {max_images} are allowed")
    return PredictInput(images, weight)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parsed(body: bytes) -> PredictRequest:
    try:
        return PredictRequest.model_validate_json(body.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from error


def _from_base64(text: str) -> EncodedImage:
    """Decode base64 as written by browsers (data: URLs), shells (line breaks) and web tokens (``-_``, no padding)."""
    digits = _DATA_URL.sub("", text, count=1).translate(_ONE_ALPHABET).rstrip("=")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return UndecodableImageError(
            "the image is not base64: allowed are A-Z a-z 0-9 + / (or - _ for the last two), optional = at the end, "
            "white space, and a prefix `data:…;base64,`"
        )
