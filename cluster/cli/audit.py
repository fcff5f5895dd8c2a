"""``lmeraser audit``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.ids_file import IdsFile, SubjectsFile, read_ids
from cluster.cli.options import DataFolder, read_config, read_file
from cluster.cli.output import emit, print_pairs, progress
from cluster.cli.residue import folders_of
from cluster.cli.target import KeyedTarget, with_options
from lmeraser.config import Config
from lmeraser.errors import ConfigError
from lmeraser.state.keys import load_hash_key, parse_public_pem

if TYPE_CHECKING:
    from lmeraser.audit import Audit
    from lmeraser.data import Sample

MIN_SHADOWS = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


@with_options
def audit(
    target: KeyedTarget,
    requests: Annotated[list[str], typer.Option("--requests", help="Id of a deletion; more may follow it.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for report.html and report.json.")],
    more: Annotated[list[str] | None, typer.Argument(help="More ids of deletions.", metavar="ID...")] = None,
    data: DataFolder = None,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file of the public signing key.  [default: that of the key folder]")
    ] = None,
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    with_rows: Annotated[
        bool, typer.Option("--with-rows", help="Take the deleted rows from the configuration's `private:` source.")
    ] = False,
    folders: Annotated[
        list[Path] | None, typer.Option("--folder", help="Another folder to scan, such as one with logs.")
    ] = None,
    known_head: Annotated[str | None, typer.Option(help="Digest of a log record that you kept.")] = None,
    shadows: Annotated[int, typer.Option(min=0, help="Shadow models per attacked cluster; 0 for none.")] = 64,
    targets: Annotated[int, typer.Option(min=1, help="Largest number of rows to attack per cluster.")] = 32,
    attacked: Annotated[int, typer.Option(min=1, help="Largest number of changed clusters to attack.")] = 2,
    controls: Annotated[bool, typer.Option("--controls", help="Also audit faked deletions in copies.")] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes.  [default: one per core]")] = None,
) -> None:
    """Audit deletions and write a report; exit code 1 if any section fails.

    Needs the hash key and the public key, not the signing key. Run it while no deletion is pending.

    Example: lmeraser audit --store /data/gtsrb-store --requests 4f0c… --ids-file erased.txt --out audit/
    """
    from lmeraser.audit import Plan, Question, to_html
    from lmeraser.audit import audit as run
    from lmeraser.state.manifest import load_manifest

    if 0 < shadows < MIN_SHADOWS:
        raise ConfigError(f"--shadows is {shadows}; allowed is 0, or {MIN_SHADOWS} and more")
    store = target.open_store(data)
    labels = load_manifest(store).config.labels
    settings = read_config(target.config, data) if target.config is not None or with_rows else Config()
    question = Question(
        requests=tuple(dict.fromkeys([*requests, *(more or [])])),
        plan=Plan(shadows, targets, attacked, settings.serving.specialist_weight, settings.serving.temperature),
        ids=tuple(chain(*read_ids(ids_file, subjects_file))),
        source=list(_rows(settings, target.key_folder, labels)) if with_rows else (),
        folders=tuple(folders_of(folders)),
        known_head=known_head,
    )
    folder = target.key_folder
    key = parse_public_pem(read_file(public_key or folder / "signing-key.pub.pem"))
    _make(out)
    with progress() as report:
        result = run(store, load_hash_key(folder), key, question, controls, processes or os.cpu_count() or 1, report)
    value = result.to_json()
    (out / "report.html").write_text(to_html(result), encoding="utf-8")
    (out / "report.json").write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    emit(value, target.as_json, lambda: _print(result, out / "report.html"))
    if result.verdict == "failed":
        raise typer.Exit(1)


def _print(result: Audit, report: Path) -> None:
    sections = result.sections
    print_pairs([*((section.title, section.status) for section in sections), ("", ""), ("verdict", result.verdict)])
    print_pairs(("", finding) for section in sections for finding in section.findings)
    print_pairs([("report", report)])


def _rows(settings: Config, keys: Path, labels: tuple[str, ...]) -> Iterator[Sample]:
    """The private rows, named as an ingest names them."""
    from lmeraser.data import open_source

    return open_source(settings.private, images=settings.images, name_key=load_hash_key(keys)).samples(labels)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}") from error
