"""What commands print: results on stdout, as JSON or as text; progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars
from rich.table import Table

from lmeraser.paging import Page
from lmeraser.progress import Progress

_stdout = sys.stdout
# People copy ids and digests: a narrow terminal may wrap them, but they are never cut.
_WIDTH = 200


def leave_stdout_to_results() -> None:
    """Send what libraries print to stderr: Ray prints warnings about its node on stdout."""
    sys.stdout = sys.stderr


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    _stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    _stdout.flush()


def emit(value: Any, as_json: bool, show: Callable[[], None] | None = None) -> None:
    """Print a result: as one JSON object, else by ``show``, else as names and values.

    Args:
        value: what JSON can hold; a mapping, unless ``show`` is given.
        as_json: whether ``--json`` was given.
        show: prints the result for people, where names and values are not enough.
    """
    if as_json:
        print_json(value)
    elif show is not None:
        show()
    else:
        print_pairs(value.items())


def warn(text: str) -> None:
    """Print a sentence on stderr that does not change the exit code."""
    Console(stderr=True).print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print one name and its value per line; the items of a list are separated by commas."""
    # A name may come more than once.
    lines = list(pairs)
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        _stdout.write(f"{name:<{width}}  {_text(value)}\n" if name or value else "\n")
    _stdout.flush()


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*map(_text, row))
    Console(file=_stdout, width=_WIDTH).print(table, markup=False, highlight=False)


def print_page(columns: Sequence[str], rows: Iterable[Sequence[Any]], page: Page[Any]) -> None:
    """Print a page of a list as a table; on stderr, how to get the next one."""
    print_rows(columns, rows)
    if page.next_cursor is not None:
        hint = f"there are more: --cursor {page.next_cursor}"
        Console(stderr=True).print(hint, markup=False, highlight=False, soft_wrap=True)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars on a terminal, elsewhere one line per tenth of a step; yields the report function."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with ProgressBars(*columns, console=console) as bars:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _lines(console: Console) -> Progress:
    printed: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        tenths = 10 * done // total if total > 0 else 0
        if tenths > printed.get(what, 0):
            printed[what] = tenths
            console.print(f"{what}: {done} of {total}", markup=False, highlight=False)

    return report


def counts(left_out: Mapping[str, int], as_json: bool) -> Any:
    """How many were left out for each reason, as a value for :func:`emit`."""
    return dict(left_out) if as_json else ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or None


def reasons(skipped: Mapping[str, str], as_json: bool) -> Any:
    """Why each was left out, as a value for :func:`emit`."""
    return dict(skipped) if as_json else "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or None
