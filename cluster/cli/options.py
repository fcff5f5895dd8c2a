"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmeraser.config import Config, load_config
from lmeraser.errors import ConfigError
from lmeraser.keys import default_folder
from lmeraser.store import Store, open_store

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration file.")]
DataFolder = Annotated[str | None, typer.Option("--data", help="What ${data} stands for in the configuration.")]
StoreUri = Annotated[str, typer.Option("--store", help="URI of the store; goes before `store:` of the configuration.")]
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


def find_store(uri: str, config: Path | None = None, data: str | None = None) -> Store:
    """The store that ``--store`` or else the configuration names.

    Raises:
        ConfigError: when neither does.
    """
    uri = uri or (read_config(config, data).store if config is not None else "")
    if not uri:
        raise ConfigError("no store was given: pass --store URI, or --config with `store:`")
    return open_store(uri)


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
