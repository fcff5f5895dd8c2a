"""YAML with places for variables: ``${name}`` in its strings, and ``$$`` for a ``$``."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

import yaml

from lmeraser.errors import ConfigError

# What Template takes for a name in braces.
_PLACE = re.compile(r"\$\{([_a-zA-Z][_a-zA-Z0-9]*)\}")


def read_yaml(text: str, variables: Mapping[str, str], where: str) -> Any:
    """The value of a YAML text, with the variables in their places; a comment may hold what it likes.

    Raises:
        ConfigError: when it is not YAML, or a variable is missing; names ``where``.
    """
    try:
        # As one word each until the YAML is read: braces mean something there, and what is put in may hold anything.
        value = yaml.safe_load(_PLACE.sub("\ue000\\1\ue001", text)) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}") from error
    return _filled(value, variables, where)


def _filled(value: Any, variables: Mapping[str, str], where: str) -> Any:
    """The value with each ``${name}`` in its strings replaced."""
    if isinstance(value, dict):
        return {_filled(key, variables, where): _filled(item, variables, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables, where) for item in value]
    if not isinstance(value, str):
        return value
    text = value.replace("\ue000", "${").replace("\ue001", "}")
    try:
        return string.Template(text).substitute(variables)
    except KeyError as error:
        told = "which was not given (see --data)" if error.args[0] == "data" else "which is not known"
        raise ConfigError(
            f"{where} uses ${{{error.args[0]}}} in {text!r}, {told}; allowed is ${{data}}, and $$ stands for a $"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{where} has a $ in {text!r} that begins no ${{data}}: write $$ for a $ of your own"
        ) from error
