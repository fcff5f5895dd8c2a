"""``lmeraser residue``."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigFile, S3Endpoint, StoreUri, find_store
from cluster.cli.output import print_json, print_pairs, print_rows
from lmeraser.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(residue)


def residue(
    ids_file: Annotated[Path, typer.Option("--ids-file", help="File with one erased sample or subject id a line.")],
    images: Annotated[Path | None, typer.Option(help="Folder of original image files to look for as well.")] = None,
    folders: Annotated[
        list[Path] | None, typer.Option("--folder", help="Another folder to scan, such as one with logs.")
    ] = None,
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Scan the store and Ray's temporary folder for what is left of erased rows; exit code 1 when anything is.

    Run it while no deletion is under way. What cannot be read counts as a finding.

    Example: lmeraser residue --ids-file erased.txt --store /data/gtsrb-store
    """
    from lmeraser.residue import scan

    target = find_store(store, s3_endpoint, config)
    ids = read_ids(ids_file)
    if not ids:
        raise ConfigError(f"{ids_file} names no id")
    found = scan(target, folders_of(folders), ids, _read_images(images))
    if as_json:
        print_json(asdict(found))
    else:
        print_rows(("file", "what"), ((finding.file, finding.what) for finding in found.findings))
        print_pairs(
            [
                ("files read", found.files),
                ("ids", found.ids),
                ("images", found.images),
                ("clean", "yes" if found.clean else "NO"),
            ]
        )
    if not found.clean:
        raise typer.Exit(1)


def folders_of(others: list[Path] | None) -> list[Path]:
    """The folders to scan besides the store: these, and Ray's temporary one where there is one.

    Raises:
        ConfigError: when one of those given is no folder.
    """
    missing = [folder for folder in others or [] if not folder.is_dir()]
    if missing:
        raise ConfigError(f"{missing[0]} is not a folder")
    ray = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    return [*(others or []), *([ray] if ray.exists() else [])]


def _read_images(folder: Path | None) -> list[bytes]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
