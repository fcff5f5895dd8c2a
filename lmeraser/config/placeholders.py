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


def read_yaml(text: str, variables: Mapping[str, str], where: str) -> dict[Any, Any]:
    """The mapping in a YAML text, with the variables in their places; a comment may hold what it likes.

    Raises:
        ConfigError: when it is not YAML, repeats a key, holds no mapping, or a variable is missing; names ``where``.
    """
    try:
        # As one word each until the YAML is read: braces mean something there, and what is put in may hold anything.
        value = yaml.load(_PLACE.sub("\ue000\\1\ue001", text), _UniqueKeyLoader)
        if not isinstance(value, dict):
            raise ConfigError(f"{where} holds no configuration: write keys with values, such as `store: /data/store`")
        return {_filled(key, variables, where): _filled(item, variables, where) for key, item in value.items()}
    # What a tag or a date cannot mean is told by plain errors.
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise ConfigError(f"{where} is not YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{where} cannot be read: a value in it holds itself, or is nested too deeply") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that comes twice, of which YAML's own loader takes the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            # What is merged from elsewhere (<<) may be replaced.
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if key in lines:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} in line {line} is there already, in line {lines[key]}"
                )
            lines[key] = line
        return super().construct_mapping(node, deep)


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
