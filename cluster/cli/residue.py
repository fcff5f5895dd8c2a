"""``lmeraser residue``."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.ids_file import IdsFile, SubjectsFile, read_ids
from cluster.cli.options import AsJson, ConfigFile, KeyFolder, S3Endpoint, StoreUri, find_store, key_folder
from cluster.cli.output import print_json, print_pairs, print_rows, warn
from lmeraser.errors import ConfigError
from lmeraser.state.keys import load_hash_key

if TYPE_CHECKING:
    from lmeraser.proof.residue import Residue


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(residue)


def residue(
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    images: Annotated[Path | None, typer.Option(help="Folder of original image files to look for as well.")] = None,
    folders: Annotated[
        list[Path] | None, typer.Option("--folder", help="Another folder to scan, such as one with logs.")
    ] = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Ids that the store never knew do not count.")
    ] = False,
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    as_json: AsJson = False,
) -> None:
    """Scan the store, Ray's temporary folder and its table of jobs for what is left of erased rows.

    Exit code 1 when anything is, when something cannot be read, or when the store never knew one of the ids: it neither
    holds it nor was asked to delete it. Ids without a letter count in the store alone; where else such a number stands
    is listed, and does not change the exit code. Run it while no deletion is under way.

    Example: lmeraser residue --ids-file erased.txt --store /data/gtsrb-store
    """
    from cluster.job_table import job_table
    from lmeraser.proof.residue import NOT_LOOKED_FOR, Finding, scan

    target = find_store(store, s3_endpoint, config)
    samples, subjects = read_ids(ids_file, subjects_file)
    ids = [*samples, *(one for one in subjects if one not in samples)]
    if not ids:
        raise ConfigError("nothing to look for: give --ids-file or --subjects-file")
    places = folders_of(folders)
    hash_key = load_hash_key(key_folder(keys))
    try:
        jobs, unread = job_table(), []
    except OSError as error:
        jobs, unread = [], [Finding("Ray's table of jobs", f"cannot be read: {error}")]
    found = scan(target, hash_key, places, ids, _read_images(images), jobs, unread)
    if as_json:
        print_json({"clean": found.clean, **asdict(found), "not_looked_for": NOT_LOOKED_FOR})
    else:
        _print(found, NOT_LOOKED_FOR)
    if found.never_known:
        warn(_strange(ids, found))
    if found.findings or (found.never_known and not allow_unknown):
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


def _print(found: Residue, not_looked_for: tuple[str, ...]) -> None:
    print_rows(("file", "what"), ((finding.file, finding.what) for finding in (*found.findings, *found.doubtful)))
    unpacked = ", ".join(f"{count} {kind}" for kind, count in sorted(found.not_unpacked.items()))
    print_pairs(
        [
            ("files read", found.files),
            ("not unpacked", unpacked or "none"),
            ("ids", found.ids),
            ("never known", len(found.never_known)),
            ("images", found.images),
            ("clean", "yes" if found.clean else "NO"),
        ]
    )
    print_pairs(("not looked for" if place == 0 else "", one) for place, one in enumerate(not_looked_for))


def _strange(ids: list[str], found: Residue) -> str:
    names = ", ".join(repr(ids[place - 1]) for place in found.never_known[:3])
    told = (
        f"the store never knew {len(found.never_known)} of the {len(ids)} ids, so it proves nothing about {names}. "
        "The store neither holds them nor was asked to delete them. A subject whose rows were deleted by their sample "
        "ids is such an id too; --allow-unknown makes that no error"
    )
    if not found.misspelt:
        return told
    return f"{told}. A held id differs from {ids[found.misspelt[0] - 1]!r} in blanks, case or Unicode form only"


def _read_images(folder: Path | None) -> list[bytes]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
