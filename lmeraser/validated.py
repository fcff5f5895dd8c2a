"""Values from outside, checked against the dataclass that they are to be."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails

from lmeraser.errors import ConfigError

T = TypeVar("T")


def validated(kind: type[T], value: Any, where: str) -> T:
    """The value as an instance of the dataclass.

    Raises:
        ConfigError: when a key is unknown or missing, or a value outside its range; names ``where``, the key, and what
            is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']) or 'it'}: {item['msg']}"
            + (f" (got {item['input']!r})" if _is_told(item) else "")
            for item in error.errors()
        ]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def _is_told(item: ErrorDetails) -> bool:
    """Whether the value is worth showing: one that is there, and no whole section."""
    whole = isinstance(item["input"], dict) or is_dataclass(item["input"]) or isinstance(item["input"], ArgsKwargs)
    return item["type"] not in ("missing", "unexpected_keyword_argument") and not whole
