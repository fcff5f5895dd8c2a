"""The markdown table of unlearning methods: those measured here, and those of other papers with their source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.lib.frontier_tables import expected, markdown, share
from benchmarks.lib.run import Run
from benchmarks.lib.runs import OURS, PUBLISHED, RETRAIN, RETRAIN_AS_OURS, SHARED_HEAD_ONLY, SISA
from benchmarks.lib.size_results import LARGEST, Results, figure_of, p99
from benchmarks.lib.summary import Summary, of_run, worst_cost_of_sisa

_HEAD = (
    "method",
    "accuracy",
    "expected cost of a deletion",
    "costliest deletion",
    "exact?",
    "without influence after",
    "proof",
    "data and model",
    "source",
)
_CELLS = ("accuracy", "expected", "worst", "exact", "influence", "proof", "conditions")
_SETTING = "gtsrb 2000"
_CONDITIONS = "2000 traffic signs, DeiT-Tiny at 96 px"
_SOURCE = "measured here"
_NOT_MEASURED, _NOT_GIVEN = "not measured", "not given"
# Run, name, whether it is exact, what proves it.
_MEASURED: tuple[tuple[Run, str, str, str], ...] = (
    (OURS, "**this project**", "bit for bit", "`verify`, state root, signed receipt"),
    (SHARED_HEAD_ONLY, "a linear head on exact sums, as in this project", "bit for bit", "as this project"),
    (RETRAIN_AS_OURS, "retrain, one prompt tuned as ours", "by definition", "running it again"),
    (RETRAIN, "retrain, one prompt", "by definition", "running it again"),
    (SISA, "SISA, 5 shards, 3 slices", "yes: the shard is tuned again", "none"),
    (PUBLISHED, "LMEraser as published", "in its design; not after a deletion", "none"),
)


def table(frontier: Mapping[str, Sequence[Summary]], size: Results, literature: Sequence[Mapping[str, Any]]) -> str:
    """The table.

    Args:
        frontier: accuracy and cost of the methods that were measured.
        size: seconds until a row is erased, by size of the store.
        literature: the other methods; a figure that its source does not have is None.
    """
    return markdown(_HEAD, [*_measured(list(frontier[_SETTING]), size), *map(_cited, literature)])


def _measured(rows: list[Summary], size: Results) -> Iterator[list[str]]:
    for run, name, exact, proof in _MEASURED:
        row = of_run(run, rows)
        if row is None:
            continue
        yield [
            name,
            share(row["accuracy"]["accuracy"]),
            f"{expected(row):,.0f} row-passes",
            _worst(run, row),
            exact,
            _influence(size) if run == OURS else _NOT_MEASURED,
            proof,
            _CONDITIONS,
            _SOURCE,
        ]


def _worst(run: Run, row: Summary) -> str:
    if run in (RETRAIN, RETRAIN_AS_OURS):
        # Every row costs the same.
        return f"{expected(row):,.0f}"
    if run == SISA:
        return f"{worst_cost_of_sisa(row):,.0f}"
    costs = row["row_passes_of_one_row"]
    return f"{max(costs['worst']):,.0f}" if "worst" in costs else _NOT_MEASURED


def _influence(size: Results) -> str:
    median, slowest = figure_of(size, LARGEST, "one erased_s median"), p99(size, LARGEST, "one erased_s")
    return f"{median:.2f} s, p99 {slowest:.2f} s, and the lease (0.4 s on a disk), of {int(LARGEST):,} rows"


def _cited(entry: Mapping[str, Any]) -> list[str]:
    cells = (entry[name] if entry[name] is not None else _NOT_GIVEN for name in _CELLS)
    return [entry["method"], *cells, f"[{entry['paper']}]({entry['link']}): {entry['source']}"]
