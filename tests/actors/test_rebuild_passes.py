"""What a rebuild passes through the backbone again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rebuilding import CHANGES, Rebuild
from small_system import System, finish

from lmeraser.data import Sample
from lmeraser.state.pipeline import Pipeline

SystemOf = Callable[..., System]


def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many rows pass through the backbone from now on, by kind of pass."""
    counts = {"rows": 0, "routed": 0, "embedded": 0, "tuned": 0}
    rows, routed = Pipeline.rows_of_images, Pipeline.anchors
    embedded, tuned = Pipeline.embedded, Pipeline.tuned_prompt

    def count_rows(self: Pipeline, chosen: list[Sample], images: object) -> object:
        counts["rows"] += len(chosen)
        return rows(self, chosen, images)  # type: ignore[arg-type]

    def count_routed(self: Pipeline, images: tuple[bytes, ...]) -> object:
        counts["routed"] += len(images)
        return routed(self, images)

    def count_embedded(self: Pipeline, images: tuple[bytes, ...], prompt: object) -> object:
        counts["embedded"] += len(images)
        return embedded(self, images, prompt)  # type: ignore[arg-type]

    def count_tuned(self: Pipeline, coreset: object, *arguments: object) -> object:
        counts["tuned"] += 1
        return tuned(self, coreset, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "rows_of_images", count_rows)
    monkeypatch.setattr(Pipeline, "anchors", count_routed)
    monkeypatch.setattr(Pipeline, "embedded", count_embedded)
    monkeypatch.setattr(Pipeline, "tuned_prompt", count_tuned)
    return counts


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("a label", {"rows": 0, "routed": 0, "embedded": 0, "tuned": 0}),
        ("larger clusters", {"rows": 0, "routed": 0}),
        ("the coreset", {"rows": 0, "routed": 0}),
        ("more anchors", {"rows": 0, "routed": 60}),
        ("the routing block", {"rows": 0, "routed": 60}),
        ("the size of images", {"rows": 60, "routed": 0}),
    ],
)
def test_what_follows_from_the_same_is_not_computed_again(
    change: str, expected: dict[str, int], system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of("minute", 60)
    coordinator = system.coordinator()
    rebuild = Rebuild(system, CHANGES[change](system.manifest.config))
    rebuild.begin(coordinator)
    counted = passes(monkeypatch)
    finish(rebuild.finish(coordinator))
    assert {name: counted[name] for name in expected} == expected
