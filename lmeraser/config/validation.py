"""Values from outside, validated against a dataclass."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails

from lmeraser.errors import ConfigError

T = TypeVar("T")

# Unknown keys, NaN and infinity are refused in every section.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def validated(kind: type[T], value: Any, where: str) -> T:
    """The value as an instance of the dataclass.

    Raises:
        ConfigError: when a key is unknown or missing, or a value is outside its range. The message names ``where``, the
            key, and what is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(map(_described, error.errors()))) from error


def _described(item: ErrorDetails) -> str:
    key = ".".join(map(str, item["loc"]))
    # pydantic's prefix for errors that the dataclass's own checks raise.
    message = item["msg"].removeprefix("Value error, ")
    return (f"{key}: " if key else "") + message + (f" (got {item['input']!r})" if _shows_value(item) else "")


def _shows_value(item: ErrorDetails) -> bool:
    """Whether the value helps in the message: not where it is missing or a whole section."""
    is_section = isinstance(item["input"], dict | ArgsKwargs) or is_dataclass(item["input"])
    return item["type"] not in ("missing", "unexpected_keyword_argument") and not is_section
