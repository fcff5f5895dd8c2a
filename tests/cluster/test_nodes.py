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
    arguments = [system.store.uri, str(system.keys), str(folder), str(tmp_path / "images"), str(tmp_path / "report")]
    # Ray has several nodes: the setting that keeps this process's Ray on loopback is not inherited.
    environment = {**os.environ, "RAY_ADDRESS": "local", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    subprocess.run([sys.executable, str(SCRIPT), *arguments], env=environment, check=True)
    report = json.loads((tmp_path / "report").read_text())
    assert "local folder, but Ray has 2 nodes" in report["refused"]
    assert (report["added"], len(report["nodes"]), report["alive"]) == (MORE, 2, 1)
    with pytest.raises(ProcessLookupError):
        os.kill(report["killed_pid"], 0)
    rows = [row for row in samples(0, ROWS) if row.sample_id not in report["deleted"]]
    assert system.newest().root == system.fresh_root([*rows, *added])
    assert report["commit"] == system.newest().number
    kinds = [record.kind for record in Log(system.store).advance()]
    assert (kinds.count("request"), kinds.count("erased"), kinds.count("completed")) == (1, 1, 1)
    referenced = system.newest().objects()
    assert {name for name in system.store.names() if name.startswith(("rows/", "prompts/", "prompted/"))} <= referenced
