"""What was aimed at, and by how much it was met or missed, from the values of every seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.lib.plotting import interval
from benchmarks.lib.run import Run
from benchmarks.lib.runs import LARGER_CORESET, OURS, PREVIOUS, RETRAIN, RETRAIN_AS_OURS, SISA
from benchmarks.lib.summary import Summary, cost_of_retrain, cost_of_sisa, of_run, points_over_shared

Frontier = dict[str, list[Summary]]

_LARGE_ROWS = 7_000
_TIMES_BELOW_RETRAIN, _TIMES_BELOW_SISA = 100, 40


def targets(frontier: Frontier) -> str:
    """The table of targets; without a result, a target is "not run"."""
    lines = ["| target | |", "| --- | --- |"]
    lines += [f"| {target} | {outcome} |" for target, outcome in _outcomes(frontier)]
    return "\n".join(lines) + "\n"


def _outcomes(frontier: Frontier) -> Iterator[tuple[str, str]]:
    small = frontier.get("gtsrb 2000", [])
    yield (
        "2000 traffic signs: at least .805 at no more than 700 expected row-passes",
        _accuracy_at(of_run(OURS, small), 0.805, 700),
    )
    yield (
        "at least .820 at no more than 2,100, with a coreset of 600",
        _accuracy_at(of_run(LARGER_CORESET, small), 0.820, 2_100),
    )
    large = frontier.get("gtsrb 7120", [])
    yield (
        "7120 traffic signs: within 1.5 points of retrain tuned as ours, at a 60th of its cost",
        _against(large, RETRAIN_AS_OURS, -1.5, 60),
    )
    yield (
        "7120 traffic signs: above clusters of at most 600 rows tuned on all of them, at a fifth of their cost",
        _against(large, PREVIOUS, 0.0, 5),
    )
    for setting, rows in frontier.items():
        if rows and rows[0]["rows"] >= _LARGE_ROWS:
            yield f"{setting} rows: 100 times below retrain, 40 below SISA, no less accurate", _far_below(rows)
    for setting, rows in frontier.items():
        yield f"{setting} rows: not below the shared head alone (95 % interval)", _not_below_shared(rows)
    for count, share in ((2_000, 0.85), (20_000, 0.97)):
        for setting, rows in frontier.items():
            if rows and rows[0]["rows"] == count:
                yield (
                    f"{setting} rows: {100 * share:.0f} % of uniform deletions complete without a pass",
                    _free(rows, share),
                )
    for setting, rows in frontier.items():
        yield f"{setting} rows: the worst deletion at most 2em + n row-passes", _worst(rows)


def _accuracy_at(row: Summary | None, accuracy: float, cost: float) -> str:
    if row is None:
        return "not run"
    mean, expected = _mean(row), _expected(row)
    met = _verdict(mean >= accuracy and expected <= cost)
    return f"{met}: {_share(mean)} ({_seeds(len(row['seeds']))}) at {expected:,.0f}"


def _against(rows: list[Summary], other_run: Run, points: float, times: float) -> str:
    row, other = of_run(OURS, rows), of_run(other_run, rows)
    if row is not None and other is None and other_run == RETRAIN_AS_OURS:
        ratio = cost_of_retrain(row) / _expected(row)
        return f"cost {_verdict(ratio >= times)}: a {ratio:.0f}th; accuracy of the other not run"
    if row is None or other is None:
        return "not run"
    seeds = [seed for seed in row["seeds"] if seed in other["seeds"]]
    difference = float(np.mean([100 * (_at(row, seed) - _at(other, seed)) for seed in seeds]))
    ratio = _expected(other) / _expected(row)
    met = _verdict(difference >= points and ratio >= times)
    return f"{met}: {difference:+.1f} points ({_seeds(len(seeds))}) at a {ratio:.0f}th"


def _far_below(rows: list[Summary]) -> str:
    """Costs by formula; accuracy by the points over the shared head, which earlier results are comparable in."""
    row = of_run(OURS, rows)
    if row is None:
        return "not run"
    ratios = (cost_of_retrain(row) / _expected(row), cost_of_sisa(row) / _expected(row))
    far = ratios[0] >= _TIMES_BELOW_RETRAIN and ratios[1] >= _TIMES_BELOW_SISA
    costs = f"{ratios[0]:.0f} and {ratios[1]:.0f} times below"
    own = float(np.mean(points_over_shared(row, rows)))
    others = [(name, other) for name, run in (("retrain", RETRAIN), ("SISA", SISA)) if (other := of_run(run, rows))]
    if not others:
        return f"{'cost met' if far else '**missed**'}: {costs}; accuracy of retrain and SISA not run"
    points = [(name, float(np.mean(points_over_shared(other, rows))), "earlier" in other) for name, other in others]
    met = _verdict(far and all(own >= value for _, value, _ in points))
    texts = [f"{name}{' †' if earlier else ''} {value:+.1f}" for name, value, earlier in points]
    return f"{met}: {costs}; points over the shared head {own:+.1f}, {', '.join(texts)}"


def _not_below_shared(rows: list[Summary]) -> str:
    row = of_run(OURS, rows)
    if row is None:
        return "not run"
    values = interval(points_over_shared(row, rows))
    text = f"{values['mean']:+.1f}"
    if values["n"] == 1:
        return f"{_verdict(values['mean'] >= 0)}: {text} points, one seed"
    met = _verdict(values["mean"] + values["half_interval"] >= 0)
    return f"{met}: {text} ± {values['half_interval']:.1f} points, {_seeds(values['n'])}"


def _free(rows: list[Summary], share: float) -> str:
    row = of_run(OURS, rows)
    if row is None:
        return "not run"
    free = float(np.mean(row["row_passes_of_one_row"]["free"]))
    return f"{_verdict(free >= share)}: {100 * free:.1f} %"


def _worst(rows: list[Summary]) -> str:
    row = of_run(OURS, rows)
    if row is None:
        return "not run"
    options, worst = row["settings"], max(row["row_passes_of_one_row"]["worst"])
    largest = max(max(clusters) for clusters in row["clusters"])
    bound = 2 * options["epochs"] * min(options["coreset_rows"], largest) + largest
    return f"{_verdict(worst <= bound)}: {worst:,.0f} of {bound:,}"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _mean(row: Summary) -> float:
    return float(np.mean(row["accuracy"]["accuracy"]))


def _expected(row: Summary) -> float:
    return float(np.mean(row["row_passes_of_one_row"]["expected"]))


def _at(row: Summary, seed: int) -> float:
    return float(row["accuracy"]["accuracy"][row["seeds"].index(seed)])


def _share(accuracy: float) -> str:
    return f"{accuracy:.3f}".removeprefix("0")
