"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmeraser.config import Config, load_config
from lmeraser.errors import ConfigError
from lmeraser.keys import default_folder
from lmeraser.store import Store, open_store
from lmeraser.store.location import SCHEME, with_endpoint

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration file.")]
DataFolder = Annotated[str | None, typer.Option("--data", help="What ${data} stands for in the configuration.")]
StoreUri = Annotated[str, typer.Option("--store", help="Folder or s3://bucket/prefix; goes before `store:`.")]
S3Endpoint = Annotated[
    str, typer.Option("--s3-endpoint", help="URL of an S3 provider other than AWS; goes before `s3_endpoint:`.")
]
KeyFolder = Annotated[
    Path | None, typer.Option("--keys", help="Key folder.  [default: $LMERASER_KEYS, else ~/.lmeraser/keys]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_config(path: Path | None, data: str | None) -> Config:
    """The configuration file.

    Raises:
        ConfigError: when none was given, or it cannot be used.
    """
    if path is None:
        raise ConfigError("this command needs --config FILE; examples/ holds some")
    return load_config(path, {} if data is None else {"data": data})


def read_settings(path: Path | None) -> Config:
    """The configuration file, for a command that needs only what does not enter the state; the defaults without one.

    Raises:
        ConfigError: when it cannot be used.
    """
    return read_config(path, "") if path is not None else Config()


def find_store(uri: str, s3_endpoint: str, config: Path | None = None, data: str | None = None) -> Store:
    """The store that ``--store`` or else the configuration names, with the endpoint that either gives.

    Raises:
        ConfigError: when neither names a store.
        StoreError: when it is no store's URI, or the endpoint is none, or does not go with it.
    """
    if config is not None and (not uri or (uri.startswith(SCHEME) and not s3_endpoint)):
        settings = read_config(config, data)
        uri = uri or settings.store
        s3_endpoint = s3_endpoint or (settings.s3_endpoint if uri.startswith(SCHEME) else "")
    if not uri:
        raise ConfigError("no store was given: pass --store URI, or --config with `store:`")
    return open_store(with_endpoint(uri, s3_endpoint) if s3_endpoint else uri)


def key_folder(folder: Path | None) -> Path:
    """The key folder that was given, else the default one."""
    return (folder or default_folder()).absolute()


def read_ids(file: Path) -> list[str]:
    """The ids in a file, one a line.

    Raises:
        ConfigError: when the file cannot be read.
    """
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
