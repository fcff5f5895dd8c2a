"""Several nodes over one bucket: owners on each, and one node that is killed while its owners tune."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_system import LABELS, System, samples

from lmeraser.data import Sample
from lmeraser.state.log import Log

pytestmark = pytest.mark.ray
SystemOf = Callable[..., System]
SCRIPT = Path(__file__).parent.parent / "support" / "several_nodes.py"
ROWS, MORE = 24, 6


@pytest.mark.parametrize("medium", ["s3"])
def test_a_node_that_is_killed_while_its_owners_tune_changes_nothing(
    system_of: SystemOf, built: Callable[[str, int], System], tmp_path: Path
) -> None:
    system = system_of("minute", ROWS)
    folder = shutil.copytree(built("minute", ROWS).store.uri, tmp_path / "folder")
    added = []
    for row in samples(ROWS, ROWS + MORE):
        name = f"{LABELS[row.label]}/{row.sample_id}.png"
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row.image)
        added.append(Sample(name, None, row.label, row.image))
    arguments = [system.store.uri, str(system.keys), str(folder), str(tmp_path / "images"), str(tmp_path / "told")]
    # Nodes are several: what keeps the Ray of this process on loopback is not handed on.
    environment = {**os.environ, "RAY_ADDRESS": "local", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    subprocess.run([sys.executable, str(SCRIPT), *arguments], env=environment, check=True)
    told = json.loads((tmp_path / "told").read_text())
    assert "local folder, but Ray has 2 nodes" in told["refused"]
    assert (told["added"], len(told["nodes"]), told["alive"]) == (MORE, 2, 1)
    with pytest.raises(ProcessLookupError):
        os.kill(told["killed_pid"], 0)
    rows = [row for row in samples(0, ROWS) if row.sample_id not in told["deleted"]]
    assert system.newest().root == system.fresh_root([*rows, *added])
    assert told["commit"] == system.newest().number
    kinds = [record.kind for record in Log(system.store).advance()]
    assert (kinds.count("request"), kinds.count("erased"), kinds.count("completed")) == (1, 1, 1)
    named = system.newest().objects()
    assert {name for name in system.store.names() if name.startswith(("rows/", "specialists/"))} <= named
