"""Values from outside, checked against the dataclass that they are to be."""

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
        ConfigError: when a key is unknown or missing, or a value outside its range; names ``where``, the key, and what
            is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(map(_told, error.errors()))) from error


def _told(item: ErrorDetails) -> str:
    place = ".".join(map(str, item["loc"]))
    # How pydantic begins what a check of the dataclass itself says.
    message = item["msg"].removeprefix("Value error, ")
    return (f"{place}: " if place else "") + message + (f" (got {item['input']!r})" if _is_told(item) else "")


def _is_told(item: ErrorDetails) -> bool:
    """Whether the value is worth showing: one that is there, and no whole section."""
    whole = isinstance(item["input"], dict) or is_dataclass(item["input"]) or isinstance(item["input"], ArgsKwargs)
    return item["type"] not in ("missing", "unexpected_keyword_argument") and not whole
