"""Options that several commands share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lmeraser.config import Config, SourceConfig, load_config
from lmeraser.errors import ConfigError, KeysError
from lmeraser.paging import MAX_LIMIT
from lmeraser.state.keys import default_folder
from lmeraser.store import Store, open_store
from lmeraser.store.location import SCHEME, local_path, with_endpoint

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration file.")]
DataFolder = Annotated[str | None, typer.Option("--data", help="Value of ${data} in the configuration.")]
StoreUri = Annotated[str, typer.Option("--store", help="Folder or s3://bucket/prefix; overrides `store:`.")]
S3Endpoint = Annotated[
    str, typer.Option("--s3-endpoint", help="URL of an S3 provider other than AWS; overrides `s3_endpoint:`.")
]
KeyFolder = Annotated[
    Path | None, typer.Option("--keys", help="Key folder.  [default: $LMERASER_KEYS, else ~/.lmeraser/keys]")
]
ServiceUrl = Annotated[
    str, typer.Option("--url", help="Ask the service at this address over HTTP; then no --store, --keys or --config.")
]
ApiKeyFile = Annotated[
    Path | None, typer.Option("--api-key-file", help="File with the API key.  [default: $LMERASER_API_KEY]")
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=MAX_LIMIT, help="Most lines of the list.")]
NextCursor = Annotated[
    str | None, typer.Option("--cursor", help="`next_cursor` of the previous page, for the one that follows.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_config(path: Path | None, data: str | None, s3_endpoint: str = "") -> Config:
    """The configuration file; ``s3_endpoint`` overrides its own, also for rows on S3.

    Raises:
        ConfigError: when no file was given, or it cannot be used.
        StoreError: when a path on S3 cannot be used.
    """
    if path is None:
        raise ConfigError("this command needs --config FILE; examples/ holds some")
    config = load_config(path, {} if data is None else {"data": data})
    endpoint = s3_endpoint or config.s3_endpoint
    public, private = _at_endpoint(config.public, endpoint), _at_endpoint(config.private, endpoint)
    test = _at_endpoint(config.test, endpoint) if config.test is not None else None
    return replace(config, s3_endpoint=endpoint, public=public, private=private, test=test)


def _at_endpoint(source: SourceConfig, endpoint: str) -> SourceConfig:
    if not endpoint or not source.path.startswith(SCHEME):
        return source
    return replace(source, path=with_endpoint(source.path, endpoint))


def read_settings(path: Path | None) -> Config:
    """The configuration file, for a command that needs only settings that do not affect the state.

    Without a file, the defaults.

    Raises:
        ConfigError: when the file cannot be used.
    """
    return read_config(path, "") if path is not None else Config()


def find_store(uri: str, s3_endpoint: str, config: Path | None = None, data: str | None = None) -> Store:
    """The store that ``--store``, or else the configuration, names, with the endpoint that either gives.

    Raises:
        ConfigError: when neither names a store.
        StoreError: when the URI or the endpoint cannot be used, or the store is not on S3 and has an endpoint.
    """
    if config is not None and (not uri or uri.startswith(SCHEME) != bool(s3_endpoint)):
        settings = read_config(config, data, s3_endpoint)
        uri = uri or settings.store
        if uri.startswith(SCHEME):
            s3_endpoint = settings.s3_endpoint
        elif _rows_on_s3(settings):
            # The endpoint is for the rows only.
            s3_endpoint = ""
    if not uri:
        raise ConfigError("no store is given: pass --store URI, or --config with `store:`")
    return open_store(with_endpoint(uri, s3_endpoint) if s3_endpoint else uri)


def _rows_on_s3(config: Config) -> bool:
    sources = (config.public, config.private, config.test)
    return any(source is not None and source.path.startswith(SCHEME) for source in sources)


def key_folder(folder: Path | None) -> Path:
    """The key folder that was given, else the default one."""
    return default_folder() if folder is None else local_path(folder)


def read_file(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ConfigError: when it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def read_api_key(file: Path | None) -> str | None:
    """The API key in a file, without white space around it; None without a file.

    Raises:
        ConfigError: when the file cannot be read or is empty.
        KeysError: when others may read it.
    """
    if file is None:
        return None
    # Read once: it may be a pipe.
    key = read_file(file).decode(errors="replace").strip()
    mode = file.stat().st_mode
    if mode & 0o077:
        raise KeysError(f"{file} may be read by others (mode {mode & 0o777:04o}); allowed is 0600")
    if not key:
        raise ConfigError(f"{file} holds no API key; `lmeraser api-keys create` prints one")
    return key
