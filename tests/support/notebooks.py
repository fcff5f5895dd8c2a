"""A notebook, executed as a reader would."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat


@dataclass(frozen=True)
class Executed:
    """What an executed notebook printed, and how many plots it drew."""

    text: str
    plots: int


def executed(notebook: Path) -> Executed:
    """Execute it in a kernel of its own; it must be committed without outputs."""
    assert not any(cell.get("outputs") for cell in nbformat.read(notebook, 4).cells), "commit it without outputs"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LMERASER_", "RAY_"))}
    # Short, because paths of sockets must be: Ray's, and the kernel's.
    with tempfile.TemporaryDirectory(prefix="nb-", ignore_cleanup_errors=True) as folder:
        for name in ("TMPDIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
            environment[name] = folder
        execute = Path(sys.executable).parent / "jupyter-execute"
        options = (f"--output={folder}/executed", "--timeout=500", "--KernelManager.transport=ipc")
        command = [str(execute), str(notebook), *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5000:]
        cells = nbformat.read(Path(folder) / "executed.ipynb", 4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "error:" not in text, text
    return Executed(text, sum("image/png" in output.get("data", {}) for output in outputs))
