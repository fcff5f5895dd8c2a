"""The quickstart notebook, executed as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parent.parent


# The kernel's own processes leave these; what the notebook runs are processes of their own.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
def test_the_notebook_runs_and_shows_what_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("LMERASER_HASH_KEY", raising=False)
    monkeypatch.delenv("LMERASER_API_KEY", raising=False)
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(ROOT)}}).execute()
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
