"""The quickstart notebook, executed as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.ray
NOTEBOOK = Path(__file__).parent.parent / "docs" / "quickstart.ipynb"


@pytest.mark.timeout(600)
def test_the_notebook_runs_and_shows_what_it_says() -> None:
    assert not any(cell.get("outputs") for cell in nbformat.read(NOTEBOOK, 4).cells), "commit it without outputs"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LMERASER_", "RAY_"))}
    # Short, because paths of sockets must be: Ray's, and the kernel's.
    with tempfile.TemporaryDirectory(prefix="nb-", ignore_cleanup_errors=True) as folder:
        for name in ("TMPDIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            environment[name] = folder
        execute = Path(sys.executable).parent / "jupyter-execute"
        options = (f"--output={folder}/executed", "--timeout=500", "--KernelManager.transport=ipc")
        command = [str(execute), str(NOTEBOOK), *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5000:]
        executed = nbformat.read(Path(folder) / "executed.ipynb", 4)
    told = "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in executed.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "error:" not in told, told
    assert "Prediction(label=" in told
    assert re.search(r"erased: .*\ncompleted: ", told), told
    assert re.search(r"covered +yes", told), told
    assert re.search(r"equal +(yes|True)", told), told
