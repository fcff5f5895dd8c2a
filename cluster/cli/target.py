"""The options that say what a command works on, resolved: a store, its keys, a service, and how to print."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from cluster.cli.options import (
    ApiKeyFile,
    AsJson,
    ConfigFile,
    KeyFolder,
    S3Endpoint,
    ServiceUrl,
    StoreUri,
    find_store,
    key_folder,
    read_api_key,
    read_settings,
)
from lmeraser.client.client import Client
from lmeraser.config import Config
from lmeraser.errors import ConfigError
from lmeraser.store import Store

if TYPE_CHECKING:
    from actors.remote.placement import StoreRef


@dataclass(frozen=True)
class Target:
    """A store, for commands that only read it."""

    store: StoreUri = ""
    s3_endpoint: S3Endpoint = ""
    config: ConfigFile = None
    as_json: AsJson = False

    def open_store(self, data: str | None = None) -> Store:
        """The store that the options name.

        Raises:
            ConfigError: when they name none.
            StoreError: when the URI or the endpoint cannot be used.
        """
        return find_store(self.store, self.s3_endpoint, self.config, data)

    def settings(self) -> Config:
        """The settings that do not affect the state; the defaults without ``--config``."""
        return read_settings(self.config)


@dataclass(frozen=True)
class KeyedTarget(Target):
    """A store with its key folder."""

    keys: KeyFolder = None

    @property
    def key_folder(self) -> Path:
        """The folder that ``--keys`` names, else the default one."""
        return key_folder(self.keys)

    def ref(self, store: Store) -> StoreRef:
        """How processes of Ray find the store and its keys."""
        from actors.remote.placement import StoreRef

        return StoreRef(store.uri, str(self.key_folder))


@dataclass(frozen=True)
class DeletionTarget(KeyedTarget):
    """What keeps the deletions: a store and its coordinator, or with ``--url`` a service."""

    url: ServiceUrl = ""
    api_key_file: ApiKeyFile = None

    def open_client(self) -> Client | None:
        """A client of the service that ``--url`` names; None without ``--url``.

        Raises:
            ConfigError: when options of both ways are given, or the address or the API key cannot be used.
            KeysError: when others may read the file of the API key.
        """
        if not self.url:
            if self.api_key_file is not None:
                raise ConfigError("--api-key-file is only used together with --url")
            return None
        given = {
            "--store": self.store,
            "--s3-endpoint": self.s3_endpoint,
            "--config": self.config,
            "--keys": self.keys,
        }
        if superfluous := [option for option, value in given.items() if value]:
            raise ConfigError(
                f"--url and {superfluous[0]} exclude each other: the service at --url has its own store, keys and "
                "configuration"
            )
        return Client(self.url, api_key=read_api_key(self.api_key_file))


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that the fields of its ``target`` declare, in place of the ``target``."""
    parameters = dict(inspect.signature(command, eval_str=True).parameters)
    kind = parameters.pop("target").annotation
    assert is_dataclass(kind) and isinstance(kind, type)
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)]
    # --json comes last in the help of every command.
    names.sort(key="as_json".__eq__)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(kind, name), annotation=hints[name])
        for name in names
    ]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        target = kind(**{name: arguments.pop(name) for name in names if name in arguments})
        command(target=target, **arguments)

    run.__signature__ = inspect.Signature([*parameters.values(), *options])  # type: ignore[attr-defined]
    return run
