"""Where code goes: imports point one way and never in a circle, Ray stays in its folder, files are short."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("lmeraser", "actors", "serving", "cluster")
# From the bottom to the top. A room imports from lower rows and from itself, not from its neighbours in a row.
ROOMS = (
    {"root"},
    {"config", "store"},
    {"data"},
    {"learning"},
    {"state"},
    {"proof"},
    {"audit", "baselines", "client"},
)
MAX_LINES = 320
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
# Of demos, audits and baselines; a process that holds or checks state has no use for them.
PLOTS_AND_DEMO_DATA = "{'matplotlib', 'sklearn'}"

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FILES = sorted([*SOURCES, *(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))])


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES}


@cache
def imports_of(module: str, *, at_run_time: bool = False) -> frozenset[str]:
    """Modules that a module's text imports, wherever in the text: of this project by file, of others by package.

    Args:
        module: dotted name.
        at_run_time: leave out what is imported for annotations only, under ``if TYPE_CHECKING``.
    """
    imported: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(MODULES[module].read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            imported.update(_known(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module} has a relative import"
            imported.update(_known(node.module, alias.name) for alias in node.names)
        elif not (at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)
    return frozenset(imported - {module})


def _known(module: str, name: str = "") -> str:
    if f"{module}.{name}" in MODULES:
        return f"{module}.{name}"
    return module if module in MODULES else module.partition(".")[0]


def row_of(module: str) -> tuple[int, str]:
    """Number of the row and name of the room of a module of lmeraser."""
    path = MODULES[module].relative_to(ROOT / "lmeraser")
    room = path.parts[0] if len(path.parts) > 1 else "root"
    (row,) = (number for number, rooms in enumerate(ROOMS) if room in rooms)
    return row, room


def in_package(package: str) -> list[str]:
    """The modules of a package."""
    return [module for module in MODULES if module == package or module.startswith(f"{package}.")]


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_one_way(module: str) -> None:
    rank = PACKAGES.index(module.partition(".")[0])
    assert not {name.partition(".")[0] for name in imports_of(module)} & set(PACKAGES[rank + 1 :])


# The package itself hands on the public names of its rooms.
@pytest.mark.parametrize("module", [module for module in in_package("lmeraser") if module != "lmeraser"])
def test_rooms_of_lmeraser_import_one_way(module: str) -> None:
    row, room = row_of(module)
    for name in imports_of(module):
        if name.partition(".")[0] == "lmeraser":
            below, other = row_of(name)
            assert below < row or other == room, f"{module} ({room}) imports {name} ({other})"


def test_no_import_circle() -> None:
    # lmeraser/__init__.py hands on names of its rooms, lazily.
    graph = {
        module: imports_of(module, at_run_time=True) & MODULES.keys() for module in MODULES if module != "lmeraser"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    "module", [module for module in in_package("actors") if not module.startswith("actors.remote")]
)
def test_plain_actors_know_no_ray(module: str) -> None:
    reached, waiting = {module}, [module]
    while waiting:
        new = imports_of(waiting.pop()) - reached
        reached |= new
        waiting += [name for name in new if name in MODULES]
    assert "ray" not in reached
    assert not [name for name in reached if name.startswith("actors.remote")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_short_and_named_for_what_they_hold(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert path.stem not in VAGUE_NAMES


def run(program: str) -> None:
    """Run a program in a Python of its own, from the top of the project."""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_method_loads_no_ray() -> None:
    run(f"import sys, {', '.join(in_package('lmeraser'))}; assert 'ray' not in sys.modules, 'ray was imported'")


@pytest.mark.slow
def test_the_command_line_starts_without_what_computes() -> None:
    heavy = "{'ray', 'torch', 'timm', 'sklearn', 'pyarrow'}"
    run(f"import sys, cluster.cli.app; loaded = {heavy} & set(sys.modules); assert not loaded, loaded")


@pytest.mark.slow
@pytest.mark.parametrize("process", ["cluster.jobs", "cluster.runtime", "lmeraser.proof.residue", "actors.restoring"])
def test_what_only_waits_reads_or_erases_loads_no_torch(process: str) -> None:
    run(f"import sys, {process}; assert 'torch' not in sys.modules, 'torch was imported'")


@pytest.mark.slow
@pytest.mark.parametrize(
    "process",
    [
        "serving.app, serving.replica",
        "actors.remote.owner_processes",
        "actors.remote.coordinator_actor",
        "lmeraser.proof.verify, lmeraser.proof.mirror",
    ],
)
def test_no_process_of_the_service_loads_plots_or_demo_data(process: str) -> None:
    run(f"import sys, {process}; loaded = {PLOTS_AND_DEMO_DATA} & set(sys.modules); assert not loaded, loaded")
    run(f"import sys, {process}; assert 'torch._dynamo' not in sys.modules, 'the compiler was imported'")
