"""``lmeraser preview``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.deletions import open_deletions
from cluster.cli.ids_file import IdsFile, SampleIds, SubjectIds, SubjectsFile, odd_ids, read_named
from cluster.cli.output import emit, warn
from cluster.cli.target import DeletionTarget, with_options
from lmeraser.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add ``lmeraser preview``."""
    app.command()(preview)


@with_options
def preview(
    target: DeletionTarget,
    sample_ids: SampleIds = None,
    subject_ids: SubjectIds = None,
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    deletion_id: Annotated[
        str | None,
        typer.Option("--deletion", metavar="ID", help="A deletion that waits for approval."),
    ] = None,
    show_ids: Annotated[bool, typer.Option("--show-ids", help="Name the rows that would be erased.")] = False,
) -> None:
    """Say what a deletion would do: rows, clusters, cost, and the state root right after it. Deletes nothing.

    `lmeraser delete --as-previewed TOKEN` with the same ids then does exactly this, or is refused because something was
    committed in between.

    Example: lmeraser preview --store /data/gtsrb-store --subjects-file gone.txt
    """
    if deletion_id is not None:
        if any((sample_ids, subject_ids, ids_file, subjects_file)):
            raise ConfigError("--deletion and ids exclude each other: the deletion has its own")
        with open_deletions(target) as deletions:
            made = deletions.preview_of(deletion_id, show_ids=show_ids)
    else:
        samples, subjects = read_named(ids_file, subjects_file, sample_ids, subject_ids)
        with open_deletions(target) as deletions:
            made = deletions.preview(sample_ids=samples, subject_ids=subjects, show_ids=show_ids)
    shown = asdict(made)
    if made.sample_ids is None:
        del shown["sample_ids"]
    emit(shown, target.as_json)
    if made.unknown_ids:
        hint = odd_ids(list(made.unknown_ids))
        warn(f"{made.unknown} id(s) are not in the store, such as {made.unknown_ids[0]!r}{hint}")
