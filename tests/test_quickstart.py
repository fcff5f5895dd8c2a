"""The quickstart notebook, executed as a reader would."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parent.parent


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Paths of sockets must be short: Ray's, and the kernel's."""
    with tempfile.TemporaryDirectory(prefix="nb-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


# The kernel's own processes leave these; what the notebook runs are processes of their own.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_the_notebook_runs_and_shows_what_it_says(monkeypatch: pytest.MonkeyPatch, short_folder: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(short_folder))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(short_folder))
    monkeypatch.setenv("IPYTHONDIR", str(short_folder / "ipython"))
    monkeypatch.delenv("LMERASER_HASH_KEY", raising=False)
    monkeypatch.delenv("LMERASER_API_KEY", raising=False)
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    kernel = AsyncKernelManager(transport="ipc")
    NotebookClient(notebook, km=kernel, timeout=500, resources={"metadata": {"path": str(ROOT)}}).execute()
    told = "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "error:" not in told, told
    assert "Prediction(label=" in told
    assert re.search(r"erased: .*\ncompleted: ", told), told
    assert re.search(r"covered +True", told), told
    assert re.search(r"equal +(yes|True)", told), told
