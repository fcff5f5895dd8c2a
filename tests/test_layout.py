"""The house: imports point one way, names say what things are, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("lmeraser", "actors", "serving", "cluster")
SOURCES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))
LONGEST_FILE = 320


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    rank = ORDER.index(path.relative_to(ROOT).parts[0])
    assert not _imported(path) & set(ORDER[rank + 1 :])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_small_and_say_what_they_are(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "manager", "misc"}


@pytest.mark.slow
def test_the_method_loads_no_ray() -> None:
    modules = ", ".join(
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] == "lmeraser"
    )
    program = f"import sys, {modules}; assert 'ray' not in sys.modules, 'ray was imported'"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_the_command_line_starts_without_what_computes() -> None:
    heavy = "{'ray', 'torch', 'timm', 'sklearn', 'pyarrow'}"
    program = f"import sys, cluster.cli.app; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", program], check=True)
