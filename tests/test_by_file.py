"""How the tests of ``make test`` are given to its workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from by_file import LONGEST_FIRST, ByFile, position, starts_ray

TESTS = Path(__file__).parent


def test_the_tests_of_a_file_that_starts_ray_stay_together_and_others_do_not(pytestconfig: pytest.Config) -> None:
    scheduler = ByFile.__new__(ByFile)
    scheduler.config = pytestconfig
    ray, plain = "tests/cluster/test_nodes.py", "tests/lmeraser/proof/test_verify.py"
    assert scheduler._split_scope(f"{ray}::test_a") == scheduler._split_scope(f"{ray}::test_b[a::b]") == ray
    assert scheduler._split_scope(f"{plain}::test_a") == f"{plain}::test_a"


def test_files_that_take_longest_exist_start_ray_and_come_first() -> None:
    files = [next(TESTS.rglob(name)) for name in LONGEST_FIRST]
    assert all(map(starts_ray, files))
    order = [position(file, is_ray=True) for file in files]
    assert order == sorted(order)
    assert order[-1] < position(TESTS / "cluster" / "test_rollout.py", is_ray=True) < position(files[0], is_ray=False)
