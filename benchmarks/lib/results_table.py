"""The markdown table of the five results that matter most, each with the page that has all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.lib.frontier_tables import expected, markdown, points, share
from benchmarks.lib.run import Run
from benchmarks.lib.runs import OURS, RETRAIN, RETRAIN_AS_OURS, SHARED_HEAD_ONLY, SISA
from benchmarks.lib.size_results import LARGEST, Results, figure_of, p99
from benchmarks.lib.summary import Summary, of_run, points_over_shared

_SETTING = "gtsrb 2000"
# From so many rows on, the largest cluster no longer grows.
_MANY_ROWS = 20_000
_OTHERS = {"one prompt tuned on all rows": RETRAIN_AS_OURS, "retrain": RETRAIN, "SISA": SISA}


def table(
    frontier: Mapping[str, Sequence[Summary]], growth: Mapping[str, Any], size: Results, throughput: Mapping[str, Any]
) -> str:
    """The table.

    Raises:
        LookupError: where one of the results is missing.
    """
    signs = list(frontier[_SETTING])
    many = [point for point in growth["points"] if point["rows"] >= _MANY_ROWS]
    shares = [value for name, value in throughput["over_plain_forward"].items() if name.endswith(", 8 clusters")]
    rows = (
        (
            "[How accurate is it?](benchmarks/comparison.md)",
            f"2000 traffic signs: {share(_run(OURS, signs)['accuracy']['accuracy'])}, and {_points(OURS, signs)} points"
            " over a linear classifier without prompts",
            f"points over the same: {_list(f'{name} {_points(run, signs)}' for name, run in _OTHERS.items())}",
        ),
        (
            "[What does deleting one row cost?](benchmarks/comparison.md)",
            f"{expected(_run(OURS, signs)):,.0f} row-passes in expectation, and none for"
            f" {100 * _mean(_run(OURS, signs), 'free'):.0f} % of the rows",
            _list(f"{name} {expected(_run(run, signs)):,.0f}" for name, run in _OTHERS.items() if run != RETRAIN)
            + f"; the linear classifier {expected(_run(SHARED_HEAD_ONLY, signs)):,.0f}",
        ),
        (
            "[And with more rows?](benchmarks/growth.md)",
            f"{min(point['ours'] for point in many):,.0f} to {max(point['ours'] for point in many):,.0f} from"
            f" {_MANY_ROWS:,} to {many[-1]['rows']:,} rows, the costliest row"
            f" {max(point['ours at worst'] for point in many):,.0f}; computed, not run",
            f"with {many[-1]['rows']:,} rows: retrain {many[-1]['retrain']:,.0f}, SISA {many[-1]['sisa 5']:,.0f}",
        ),
        (
            "[How soon is a row erased?](benchmarks/size.md)",
            f"one of {int(LARGEST):,} rows: median {figure_of(size, LARGEST, 'one erased_s median'):.2f} s, p99"
            f" {p99(size, LARGEST, 'one erased_s'):.2f} s, and the replicas' lease (0.4 s on a disk)",
            "not measured",
        ),
        (
            "[What does an answer cost?](benchmarks/serving.md)",
            f"{_fraction(min(shares))} to {_fraction(max(shares))} of the answers per second of a plain forward pass,"
            " by kind of prompt, with 8 clusters",
            f"one pass per cluster, with 64: {_fraction(_per_cluster(throughput))}",
        ),
    )
    return markdown(("question", "this project", "others"), rows)


def _run(run: Run, rows: list[Summary]) -> Summary:
    summary = of_run(run, rows)
    if summary is None:
        raise LookupError(f"{_SETTING} has no result of {run.name}")
    return summary


def _points(run: Run, rows: list[Summary]) -> str:
    return points(points_over_shared(_run(run, rows), rows))


def _mean(row: Summary, cost: str) -> float:
    values: list[float] = row["row_passes_of_one_row"][cost]
    return sum(values) / len(values)


def _list(texts: Iterator[str]) -> str:
    return ", ".join(texts)


def _per_cluster(throughput: Mapping[str, Any]) -> float:
    return max(float(value) for name, value in throughput["over_plain_forward"].items() if "one pass a cluster" in name)


def _fraction(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
