"""Markdown tables of what ``bench_scale`` measured, by size of the store, and of its targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.lib.frontier_tables import markdown
from benchmarks.lib.size_results import (
    LARGEST,
    LOG,
    MANY_CLUSTERS,
    SIZES,
    SMALLEST,
    Results,
    bytes_per_row,
    figure_of,
    limit_of,
    most_commit_bytes,
    p99,
)

_MIB = 2**20
_LENGTHS = ("100", "10000")
_NOT_RUN = "not run"
# What a row of the table says, its measurement, and the figure as text.
_Row = tuple[str, str, Callable[[Results, str], str]]


def tables_by_time(numbers: dict[str, Results]) -> dict[str, str]:
    """The tables of the newest results by name, and those of earlier ones with their time before the name."""
    return {
        (name if time == "now" else f"{time}, {name}"): table
        for time, results in numbers.items()
        for name, table in tables(results).items()
    }


def tables(results: Results) -> dict[str, str]:
    """The tables by name."""
    return {"figures": _figures(results), "log": _log(results), "targets": _targets(results)}


def _figures(results: Results) -> str:
    head = ["rows", *(f"{int(store):,}" for store in SIZES)]
    return markdown(head, ([row[0], *(_cell(results, store, row) for store in SIZES)] for row in _ROWS))


def _cell(results: Results, store: str, row: _Row) -> str:
    _, measurement, text_of = row
    if (limit_s := limit_of(results, store, measurement)) is not None:
        return f"> {limit_s:,.0f} s"
    return text_of(results, store) if measurement in results.get(store, {}) else ""


def _seconds(path: str, results: Results, store: str) -> str:
    value = figure_of(results, store, path)
    return "" if value is None else f"{value:,.2f}"


def _median_and_p99(path: str, results: Results, store: str) -> str:
    worst = p99(results, store, path)
    return "" if worst is None else f"{figure_of(results, store, f'{path} median'):,.3f} / {worst:,.3f}"


def _per_row(path: str, results: Results, store: str) -> str:
    value = bytes_per_row(results, store, path)
    return "" if value is None else f"{value:,.0f}"


def _receipts(results: Results, store: str) -> str:
    return f"{figure_of(results, store, 'requests receipts_bytes') / _MIB:,.1f}"


def _large(results: Results, store: str) -> str:
    figures = results[store]["bulk"]
    return f"{figures['erased_s']:,.1f} ({figures['ids']:,} ids)"


def _beside(results: Results, store: str) -> str:
    figures = results[store]["bulk"]
    return f"{_median_and_p99('bulk single_erased_s', results, store)} (n = {figures['singles']})"


def _tenth(results: Results, store: str) -> str:
    figures = results[store]["tenth"]
    return f"{figures['erased_s']:,.1f} ({figures['ids']:,} ids)"


def _commit_kib(measurement: str, results: Results, store: str) -> str:
    value = most_commit_bytes(results, store, (measurement,))
    return "" if value is None else f"{value / 1024:,.0f}"


_ROWS: tuple[_Row, ...] = (
    ("start until one id is accepted (s)", "start", partial(_seconds, "start accepted_s")),
    ("start until it is erased (s)", "start", partial(_seconds, "start erased_s")),
    ("of that on the processor (s)", "start", partial(_seconds, "start erased_cpu_s")),
    ("memory after it (bytes per row)", "start", partial(_per_row, "start resident_bytes")),
    ("memory at most (bytes per row)", "start", partial(_per_row, "start most_resident_bytes")),
    ("one id: accepted, median / p99 (s)", "one", partial(_median_and_p99, "one accepted_s")),
    ("one id: erased, median / p99 (s)", "one", partial(_median_and_p99, "one erased_s")),
    ("of that on the processor, median / p99 (s)", "one", partial(_median_and_p99, "one erased_cpu_s")),
    ("its greatest commit record (KiB)", "one", partial(_commit_kib, "one")),
    ("1000 ids in one request: erased (s)", "thousand", partial(_seconds, "thousand erased_s")),
    ("its greatest commit record (KiB)", "thousand", partial(_commit_kib, "thousand")),
    ("1000 requests of one id: accepted (s)", "requests", partial(_seconds, "requests accepted_s")),
    ("1000 requests of one id: erased (s)", "requests", partial(_seconds, "requests erased_s")),
    ("of that on the processor (s)", "requests", partial(_seconds, "requests erased_cpu_s")),
    ("their receipts (MiB)", "requests", _receipts),
    ("one large request: erased (s)", "bulk", _large),
    ("single ids beside it: erased, median / p99 (s)", "bulk", _beside),
    ("a tenth of the rows in ten requests: erased (s)", "tenth", _tenth),
    ("of that on the processor (s)", "tenth", partial(_seconds, "tenth erased_cpu_s")),
    ("its greatest commit record (KiB)", "tenth", partial(_commit_kib, "tenth")),
    ("replica ready (s)", "replica", partial(_seconds, "replica ready_s")),
    ("replica reloaded, median / most (s)", "replica", partial(_median_and_p99, "replica reload_s")),
)


def _log(results: Results) -> str:
    head = ["commits", "started, median (s)", "records read", "checkpoints read"]
    rows = []
    for length in _LENGTHS:
        started_s = figure_of(results, LOG, f"log {length} started_s median")
        if started_s is not None:
            read = [figure_of(results, LOG, f"log {length} read {folder}") for folder in ("log", "checkpoints")]
            rows.append([f"{int(length):,}", f"{started_s:.3f}", *(str(count or 0) for count in read)])
    return markdown(head, rows)


def _targets(results: Results) -> str:
    return markdown(
        ["target", "measured"],
        [
            [
                "one id of 10 million rows erased: p99 ≤ 1 s beside the lease",
                _at_most(p99(results, LARGEST, "one erased_s"), 1, "s"),
            ],
            [
                "and ≤ 1.5 times of that at 10 thousand rows",
                _at_most(_growth(results, "one erased_s"), 1.5, "times"),
            ],
            ["the same in processor seconds", _at_most(_growth(results, "one erased_cpu_s"), 1.5, "times")],
            [
                "start at 10 million rows ≤ 2 min",
                _at_most(figure_of(results, LARGEST, "start erased_s"), 120, "s", limit_of(results, LARGEST, "start")),
            ],
            ["memory ≤ 100 bytes a row", _at_most(bytes_per_row(results, LARGEST), 100, "bytes")],
            ["start after 10,000 commits ≤ 1.2 times of that after 100", _at_most(_log_ratio(results), 1.2, "times")],
            ["commit record of at most 1000 ids ≤ 100 KB", _at_most(_commit_kb(results), 100, "KB")],
            ["receipts of 1000 requests in one commit ≤ 10 MB", _at_most(_receipts_mb(results), 10, "MB")],
            [
                "single ids beside a request of 100,000: p99 ≤ 5 s",
                _at_most(p99(results, LARGEST, "bulk single_erased_s"), 5, "s", limit_of(results, LARGEST, "bulk")),
            ],
            [
                "1,000,000 ids of 10 million rows erased in ≤ 3 min",
                _at_most(figure_of(results, LARGEST, "tenth erased_s"), 180, "s", limit_of(results, LARGEST, "tenth")),
            ],
            ["idle at 1000 clusters: < 1 % of a core", _at_most(_idle_percent(results), 1, "%")],
        ],
    )


def _at_most(value: float | None, bound: float, unit: str, limit_s: float | None = None) -> str:
    if limit_s is not None:
        return f"**missed**: more than {limit_s:,.0f} s"
    if value is None:
        return _NOT_RUN
    return f"{'met' if value <= bound else '**missed**'}: {value:,.2f} {unit}"


def _growth(results: Results, path: str) -> float | None:
    large, small = p99(results, LARGEST, path), p99(results, SMALLEST, path)
    return None if large is None or small is None else large / small


def _log_ratio(results: Results) -> float | None:
    short, long = (figure_of(results, LOG, f"log {length} started_s median") for length in _LENGTHS)
    return None if short is None or long is None else long / short


def _commit_kb(results: Results) -> float | None:
    value = most_commit_bytes(results, LARGEST)
    return None if value is None else value / 1000


def _receipts_mb(results: Results) -> float | None:
    value = figure_of(results, LARGEST, "requests receipts_bytes")
    return None if value is None else value / 1e6


def _idle_percent(results: Results) -> float | None:
    share = figure_of(results, MANY_CLUSTERS, "idle processor_share")
    return None if share is None else 100 * share
