"""From a request's body to encoded images: JSON with base64, multipart, or one image as it is."""

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
    """What a request to predict holds.

    Attributes:
        images: in order; an error in the place of one that is not base64.
        specialist_weight: λ, where the request names it.
    """

    images: list[EncodedImage]
    specialist_weight: float | None = None


def is_one_image(request: Request) -> bool:
    """Whether the body is an image as it is."""
    return _content_type(request).startswith("image/")


async def asked_of(request: Request, max_images: int) -> PredictInput:
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
            raise RequestValidationError([{"loc": ("body", "images"), "msg": "no file was sent under this name"}])
    else:
        raise HTTPException(
            415, f"the content type is {content_type!r}; allowed is application/json, multipart/form-data, image/*"
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
    """The bytes, as browsers (a data: URL), shells (line breaks) and web tokens (``-_``, no padding) write them."""
    digits = _DATA_URL.sub("", text, count=1).translate(_ONE_ALPHABET).rstrip("=")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return UndecodableImageError(
            "the image is not base64: allowed are A-Z a-z 0-9 + / (or - _ for the last two), with = at the end or "
            "without, white space, and `data:…;base64,` before it"
        )
