"""The notebook that forgets a person runs, and shows what its text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from notebooks import executed

pytestmark = pytest.mark.ray
DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_person_is_forgotten_and_an_attacker_sees_what_the_control_shows() -> None:
    notebook = executed(DOCS / "forget-a-person.ipynb")
    shown = notebook.text
    assert notebook.plots == 3
    assert re.search(r"erased: 2 rows, .*\ncompleted: 2 rows, ", shown), shown
    assert "the state that the preview announced: True" in shown, shown
    assert re.search(r"covered +yes", shown), shown
    assert re.search(r"verdict +passed", shown), shown
    # Of sixteen shadow models half are used to test.
    equal = re.search(r"bit for bit: \{'of': (\d+), 'erased': (\d+), 'completed': (\d+)\}", shown)
    assert equal is not None, shown
    assert len(set(equal.groups())) == 1
    assert float(re.findall(r"^before: AUC (\S+)", shown, re.MULTILINE)[0]) > 0.5
