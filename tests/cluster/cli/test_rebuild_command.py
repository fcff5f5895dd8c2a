"""``lmeraser rebuild`` as an operator gives it: what is refused before anything changes, and what is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from small_system import LABELS
from workplace import BROKEN, Workplace, contents, folder_source, numbered, put_images, stock

pytestmark = pytest.mark.ray


def command(workplace: Workplace, *options: object, **parts: Any) -> tuple[object, ...]:
    """``lmeraser rebuild`` with a configuration in which these parts are others."""
    _, *places = workplace.ingest(**{"private": folder_source(workplace.folder / "private"), **parts})
    return ("rebuild", *places, *options)


def state_of(workplace: Workplace) -> dict[str, bytes]:
    """All that is not a statement that a coordinator has started."""
    return {
        name: data
        for name, data in contents(workplace.store).items()
        if not name.startswith(("log/", "checkpoints/")) or json.loads(data).get("kind") not in ("term", None)
    }


@pytest.mark.usefixtures("ray_local")
def test_what_cannot_be_rebuilt_is_refused_by_name_and_changes_nothing(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, workplace, first_source)
    before = state_of(workplace)
    more = [*LABELS, "violet"]
    public = put_images(tmp_path / "public", **numbered(range(1000, 1012)), red_broken=BROKEN)
    lmeraser(*command(workplace)).failed(2, "nothing would change")
    lmeraser(*command(workplace, "--label", "pink=red", labels=more)).failed(2, "'pink'", "red, green, blue")
    lmeraser(*command(workplace, "--label", "red=pink", labels=more)).failed(2, "'pink'", "violet")
    lmeraser(*command(workplace, "--label", "red", labels=more)).failed(2, "allowed is OLD=NEW")
    lmeraser(*command(workplace, labels=["red", "green"])).failed(2, "'blue'", "--label blue=OTHER")
    lmeraser(*command(workplace, seed=1, public=public)).failed(1, "red/red_broken.png", "--skip-bad")
    lmeraser(*command(workplace, seed=1, partition={"anchors": 40})).failed(1, "12 public rows", "anchors 40")
    lmeraser(*command(workplace, seed=1, backbone={"name": "vit_nothing"})).failed(1, "vit_nothing")
    lmeraser(*command(workplace, "--abandon")).failed(1, "no rebuild is under way")
    lmeraser(*command(workplace, "--abandon", "--watch")).failed(2, "exclude each other")
    assert state_of(workplace) == before


@pytest.mark.usefixtures("ray_local")
def test_public_images_that_are_left_out_are_reported(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, workplace, first_source)
    public = put_images(tmp_path / "public", **numbered(range(1000, 1012)), red_broken=BROKEN)
    partition = {"anchors": 5, "min_tuned_rows": 1000}
    done = lmeraser(*command(workplace, "--skip-bad", "--json", seed=1, public=public, partition=partition))
    assert done.code == 0, done.err
    assert list(done.json["public_skipped"]) == ["red/red_broken.png"]
    assert (done.json["fitted"], done.json["rows"], done.json["resumed"]) == (True, 6, False)
