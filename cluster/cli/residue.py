"""``lmeraser residue``."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.ids_file import IdsFile, SubjectsFile, read_ids
from cluster.cli.output import emit, print_pairs, print_rows, warn
from cluster.cli.target import KeyedTarget, with_options
from lmeraser.errors import ConfigError
from lmeraser.state.keys import load_hash_key

if TYPE_CHECKING:
    from lmeraser.proof.residue import Residue


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(residue)


@with_options
def residue(
    target: KeyedTarget,
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    images: Annotated[Path | None, typer.Option(help="Folder of original image files to search for too.")] = None,
    folders: Annotated[
        list[Path] | None, typer.Option("--folder", help="Another folder to scan, such as one with logs.")
    ] = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Exit with 0 even if the store never knew an id.")
    ] = False,
) -> None:
    """Scan the store, Ray's temporary folder and Ray's table of jobs for traces of erased rows.

    Exit code 1 if there is a trace, if something cannot be read, or if the store never knew one of the ids: it neither
    holds the id nor was asked to delete it. Ids without a letter count inside the store only; the same number elsewhere
    is listed without changing the exit code. Run it while no deletion is pending.

    Example: lmeraser residue --ids-file erased.txt --store /data/gtsrb-store
    """
    from cluster.job_table import job_table
    from lmeraser.proof.residue import NOT_LOOKED_FOR, Finding, scan

    store = target.open_store()
    samples, subjects = read_ids(ids_file, subjects_file)
    ids = list(dict.fromkeys([*samples, *subjects]))
    if not ids:
        raise ConfigError("nothing to search for: give --ids-file or --subjects-file")
    scanned = folders_of(folders)
    hash_key = load_hash_key(target.key_folder)
    try:
        jobs, unread = job_table(), []
    except OSError as error:
        jobs, unread = [], [Finding("Ray's table of jobs", f"cannot be read: {error}")]
    result = scan(store, hash_key, scanned, ids, _read_images(images), jobs, unread)
    value = {"clean": result.clean, **asdict(result), "not_looked_for": NOT_LOOKED_FOR}
    emit(value, target.as_json, lambda: _print(result, NOT_LOOKED_FOR))
    if result.never_known:
        warn(_unknown_ids(ids, result))
    if result.findings or (result.never_known and not allow_unknown):
        raise typer.Exit(1)


def folders_of(others: list[Path] | None) -> list[Path]:
    """The folders to scan besides the store: those given, and Ray's temporary folder if it exists.

    Raises:
        ConfigError: when one of those given is not a folder.
    """
    missing = [folder for folder in others or [] if not folder.is_dir()]
    if missing:
        raise ConfigError(f"{missing[0]} is not a folder")
    ray = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    return [*(others or []), *([ray] if ray.exists() else [])]


def _print(result: Residue, not_looked_for: tuple[str, ...]) -> None:
    print_rows(("file", "what"), ((finding.file, finding.what) for finding in (*result.findings, *result.doubtful)))
    unpacked = ", ".join(f"{count} {kind}" for kind, count in sorted(result.not_unpacked.items()))
    print_pairs(
        [
            ("files read", result.files),
            ("not unpacked", unpacked or "none"),
            ("ids", result.ids),
            ("never known", len(result.never_known)),
            ("images", result.images),
            ("clean", "yes" if result.clean else "NO"),
        ]
    )
    print_pairs(("not looked for" if index == 0 else "", limit) for index, limit in enumerate(not_looked_for))


def _unknown_ids(ids: list[str], result: Residue) -> str:
    names = ", ".join(repr(ids[number - 1]) for number in result.never_known[:3])
    text = (
        f"the store never knew {len(result.never_known)} of the {len(ids)} ids, so the scan proves nothing about "
        f"{names}: the store neither holds them nor was asked to delete them. A subject whose rows were deleted by "
        "their sample ids is such an id too. With --allow-unknown this is not an error"
    )
    if not result.misspelt:
        return text
    similar = ids[result.misspelt[0] - 1]
    return f"{text}. An id in the store differs from {similar!r} in blanks, case or Unicode form only"


def _read_images(folder: Path | None) -> list[bytes]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
