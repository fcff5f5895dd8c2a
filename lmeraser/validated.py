"""Values from outside, checked against the dataclass that they are to be."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

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
            + ("" if item["type"] in ("missing", "unexpected_keyword_argument") else f" (got {item['input']!r})")
            for item in error.errors()
        ]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error
