"""YAML with placeholders for variables: ``${name}`` in its strings, and ``$$`` for a ``$``."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

import yaml

from lmeraser.errors import ConfigError

# The names in braces that string.Template recognises.
_PLACEHOLDER = re.compile(r"\$\{([_a-zA-Z][_a-zA-Z0-9]*)\}")


def read_yaml(text: str, variables: Mapping[str, str], where: str) -> dict[Any, Any]:
    """The mapping in a YAML text with its placeholders replaced, except in comments.

    Raises:
        ConfigError: when the text is not YAML, repeats a key or is not a mapping, or a variable is missing. The message
            begins with ``where``.
    """
    try:
        # Plain words until the YAML is parsed: braces have a meaning in YAML, and so may the values of the variables.
        value = yaml.load(_PLACEHOLDER.sub("\ue000\\1\ue001", text), _UniqueKeyLoader)
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is not a configuration: write keys with values, such as `store: /data/store`")
        return {_filled(key, variables, where): _filled(item, variables, where) for key, item in value.items()}
    # An impossible date or tag value is not a YAMLError.
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise ConfigError(f"{where} is not YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{where} cannot be read: a value in it contains itself, or is nested too deeply") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses repeated keys, of which YAML's own loader silently uses the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            # Keys that are merged from elsewhere (<<) may be overridden.
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if key in lines:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} in line {line} repeats that of line {lines[key]}"
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
        reason = "which was not given (see --data)" if error.args[0] == "data" else "which is unknown"
        raise ConfigError(
            f"{where} uses ${{{error.args[0]}}} in {text!r}, {reason}; allowed is ${{data}}, and $$ for a $"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{where} has a $ in {text!r} that does not begin ${{data}}: write $$ for a $") from error
