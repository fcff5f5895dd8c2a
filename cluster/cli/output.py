"""What commands print: one JSON object or a table on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBars
from rich.table import Table

from lmeraser.progress import Progress

_stdout = sys.stdout
# Ids and digests are there to be copied: a narrow terminal may wrap them, but they are never cut.
_WIDTH = 200


def leave_stdout_to_results() -> None:
    """Send what libraries print to stderr: Ray prints warnings of its node on stdout."""
    sys.stdout = sys.stderr


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    _stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    _stdout.flush()


def warn(text: str) -> None:
    """A sentence on stderr that the exit code does not tell."""
    Console(stderr=True).print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values below each other."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for _ in range(2):
        table.add_column(no_wrap=True, overflow="ignore")
    for name, value in pairs:
        table.add_row(name, "-" if value is None else str(value))
    Console(file=_stdout, width=_WIDTH).print(table, markup=False, highlight=False)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row))
    Console(file=_stdout, width=_WIDTH).print(table, markup=False, highlight=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress bars on a terminal, a line for each tenth of a step elsewhere; gives the report function."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with ProgressBars(*columns, console=console) as bars:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _lines(console: Console) -> Progress:
    told: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        tenths = 10 * done // total if total > 0 else 0
        if tenths > told.get(what, 0):
            told[what] = tenths
            console.print(f"{what}: {done} of {total}", markup=False, highlight=False)

    return report
