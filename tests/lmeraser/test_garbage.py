"""What imports leave is not gone through again, and the process collects as before afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from lmeraser.garbage import lasting_imports

ENDS = """
from lmeraser.garbage import collect_rarely
class Cycle:
    def __del__(self):
        print("collected")
collect_rarely()
cycle = Cycle()
cycle.itself = cycle
del cycle
"""


class Cycle:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_collected_in_the_block_and_what_it_leaves_is_exempt() -> None:
    gc.collect()
    before = gc.get_freeze_count()
    with lasting_imports():
        assert not gc.isenabled()
        cycle = weakref.ref(Cycle())
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    gc.collect()
    assert cycle() is not None
    after = weakref.ref(Cycle())
    gc.collect()
    assert after() is None


def test_collections_go_on_after_an_import_that_fails_and_stay_off_where_they_were_off() -> None:
    with pytest.raises(ImportError), lasting_imports():
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with lasting_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("rarely", [True, False])
def test_the_end_of_a_command_collects_nothing(rarely: bool) -> None:
    code = ENDS if rarely else ENDS.replace("\ncollect_rarely()", "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ("collected" in done.stdout) is not rarely
