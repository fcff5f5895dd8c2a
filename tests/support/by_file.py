"""How tests are given to the workers of ``make test``: the tests of a file that starts Ray stay together."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

# Files in which Ray starts, those that take longest first, so that no worker is left alone with one of them at the end.
# All others follow.
LONGEST_FIRST = (
    "test_end_to_end.py",
    "test_operator_guide.py",
    "test_own_ray.py",
    "test_nodes.py",
    "test_pretrain.py",
    "test_system.py",
    "test_two_services.py",
    "test_bad_rows.py",
    "test_passivation.py",
    "test_forget_a_person.py",
    "test_quickstart.py",
)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no annotations
    """Gives a worker all tests of a file that starts Ray, and any other test by itself.

    Instead of pytest-xdist's own groups, which pytest 9.2 ignores without a word.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if starts_ray(self.config.rootpath / file) else nodeid


@cache
def starts_ray(file: Path) -> bool:
    """Whether the tests of a file are marked ``ray``; the main process does not import them."""
    return "pytest.mark.ray" in file.read_text()


def position(file: Path, is_ray: bool) -> int:
    """Where the tests of a file come in the order of all tests."""
    if not is_ray:
        return len(LONGEST_FIRST) + 1
    return LONGEST_FIRST.index(file.name) if file.name in LONGEST_FIRST else len(LONGEST_FIRST)
