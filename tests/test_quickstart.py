"""The quickstart notebook, executed as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from notebooks import executed

pytestmark = pytest.mark.ray
DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.timeout(600)
def test_the_quickstart_predicts_deletes_and_verifies() -> None:
    shown = executed(DOCS / "quickstart.ipynb").text
    assert "Prediction(label=" in shown
    assert re.search(r"erased: .*\ncompleted: ", shown), shown
    assert re.search(r"covered +yes", shown), shown
    assert re.search(r"equal +(yes|True)", shown), shown
