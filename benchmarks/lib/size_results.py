"""Results of ``bench_scale`` as they are kept, and the figures that tables and plots show of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# By the name of the store, the results by the name of the measurement.
Results = dict[str, dict[str, dict[str, Any]]]
BASE, SMALLEST, LARGEST = "1000", "10000", "10000000"
SIZES = (SMALLEST, "100000", "1000000", LARGEST)
LOG, MANY_CLUSTERS = "log", "many-clusters"
# Whose commits are of at most 1000 ids.
_SMALL_REQUESTS = ("one", "thousand", "requests")


def read_results(folder: Path) -> Results:
    """All results in a folder."""
    results: Results = {}
    for file in sorted(folder.glob("*/*.json")):
        results.setdefault(file.parent.name, {})[file.stem] = json.loads(file.read_text())
    return results


def figure_of(results: Results, store: str, path: str) -> Any:
    """A figure by its path, such as ``one erased_s p99``; None where it was not measured."""
    value: Any = results.get(store, {})
    for part in path.split():
        value = value.get(part) if isinstance(value, dict) else None
    return value


def limit_of(results: Results, store: str, measurement: str) -> float | None:
    """After how many seconds a measurement was given up; None where it was not."""
    limit_s: float | None = figure_of(results, store, f"{measurement} more_than_s")
    return limit_s


def bytes_per_row(results: Results, store: str, path: str = "start resident_bytes") -> float | None:
    """Memory of a coordinator above that of one over the smallest store, by the rows that it has more."""
    here, base = figure_of(results, store, path), figure_of(results, BASE, path)
    return None if here is None or base is None else (here - base) / (int(store) - int(BASE))


def most_commit_bytes(results: Results, store: str, measurements: tuple[str, ...] = _SMALL_REQUESTS) -> int | None:
    """Bytes of the greatest commit record."""
    found = [figure_of(results, store, f"{name} most_record_bytes commit") for name in measurements]
    return max((size for size in found if size is not None), default=None)


def p99(results: Results, store: str, path: str) -> float | None:
    """The 99th percentile of durations, or the greatest where there are fewer than 100."""
    spread = figure_of(results, store, path)
    return None if spread is None else (spread["max"] if spread["p99"] is None else spread["p99"])
