"""The wheel: what it holds, and that it works with the dependencies that it declares and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster.cli import app
from lmeraser.config import SourceConfig
from lmeraser.data import open_source
from lmeraser.errors import MissingExtraError
from lmeraser.extras import needs_extra
from lmeraser.store import open_store

ROOT = Path(__file__).parent.parent
RECEIPTS = ROOT / "tests" / "lmeraser" / "proof" / "receipts"
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("lmeraser", "actors", "serving", "cluster")
# One package of each extra, and one that is left out of the metadata.
NOT_IN_BASE = ("torch", "ray", "faiss", "pyarrow", "fastapi", "boto3", "sklearn", "matplotlib", "pytest")


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel."""

    folder: Path
    distributions: frozenset[str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment outside the source tree, with no other package in reach."""
        names = ("PATH", "HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        program = self.folder / "bin" / command[0]
        return subprocess.run(
            [program, *command[1:]], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )

    def python(self, program: str) -> str:
        """What the program prints."""
        done = self.run("python", "-I", "-c", program)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy, for setuptools leaves files in the tree that it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(source))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """Makes environments that hold the wheel, with one of its extras, and what its metadata asks for."""

    def make(extra: str) -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = str(folder / "bin" / "python")
        pip("--python", python, "install", "--no-deps", "--no-index", str(wheel))
        (site,) = folder.glob("lib/python*/site-packages")
        (metadata,) = site.glob("lmeraser-*.dist-info")
        needed = dependencies(Distribution.at(metadata), extra)
        for dependency in needed.values():
            link_files(dependency, site)
        return Environment(folder, frozenset(needed))

    return make


def pip(*arguments: str) -> None:
    """Run pip."""
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
    )


def dependencies(root: Distribution, extra: str) -> dict[str, Distribution]:
    """Installed distributions that the metadata asks for, and what these ask for in turn, by name.

    Those that are not installed are left out: the CUDA libraries of torch where its build for the CPU is.
    """
    needed: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    waiting = [(root, name) for name in ("", extra)]
    while waiting:
        dependent, wanted = waiting.pop()
        for text in dependent.requires or ():
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": wanted}):
                continue
            try:
                there = root if name == "lmeraser" else distribution(name)
            except PackageNotFoundError:
                continue
            if name != "lmeraser":
                needed[name] = there
            new = {(name, of) for of in ("", *requirement.extras)} - done
            done |= new
            waiting += [(there, of) for _, of in new]
    return needed


def link_files(dependency: Distribution, site: Path) -> None:
    """Put links to exactly the files of an installed distribution into another site-packages."""
    for file in dependency.files or ():
        # Scripts and manual pages are outside.
        if ".." in file.parts:
            continue
        link = site / file
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(Path(str(file.locate())))


@pytest.mark.slow
def test_the_wheel_holds_the_data_of_its_packages(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    data = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != "README.md"
    }
    assert data <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {"cluster/demo.yaml", "serving/page/index.html", "serving/page/swagger-ui/swagger-ui.css"} <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)


@pytest.mark.slow
def test_the_wheel_without_extras_is_a_client_and_checks_receipts(environment: Callable[[str], Environment]) -> None:
    base = environment("")
    listed = json.loads(
        base.python(
            "import json; from importlib.metadata import distributions; from importlib.util import find_spec\n"
            f"print(json.dumps([[d.name for d in distributions()], [n for n in {NOT_IN_BASE} if find_spec(n)]]))"
        )
    )
    assert {canonicalize_name(name) for name in listed[0]} == base.distributions | {"lmeraser"}
    assert listed[1] == []

    printed = base.python(
        "import lmeraser; from lmeraser import AsyncClient, Client\n"
        "with Client('http://127.0.0.1:8000'): print(lmeraser.__version__, lmeraser.__file__)"
    )
    version, file = printed.split()
    assert version == TABLE["version"]
    assert Path(file).is_relative_to(base.folder)

    checked = base.run(
        *("lmeraser", "receipt", "verify", str(RECEIPTS / "holds.json"), "--json"),
        *("--public-key", str(RECEIPTS / "signing-key.pub.pem")),
    )
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["valid"] is True

    refused = base.run("lmeraser", "serve", "--store", "store")
    assert refused.returncode == 1
    assert "pip install 'lmeraser[server]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    message = base.python(
        "from lmeraser.errors import MissingExtraError; from lmeraser.store import open_store\n"
        "try: open_store('s3://bucket/store')\n"
        "except MissingExtraError as error: print(error)"
    )
    assert "pip install 'lmeraser[s3]'" in message


@pytest.mark.slow
def test_the_wheel_with_all_extras_has_every_module(environment: Callable[[str], Environment]) -> None:
    full = environment("all")
    helped = full.run("lmeraser", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "ingest" in helped.stdout
    imported = full.python(
        "import importlib, pkgutil\n"
        f"for name in {PACKAGES}:\n"
        "    package = importlib.import_module(name)\n"
        "    modules = pkgutil.walk_packages(package.__path__, f'{name}.')\n"
        "    print(name, package.__file__, len([importlib.import_module(m.name) for m in modules\n"
        "        if not m.name.endswith('__main__')]))"
    )
    for line, package in zip(imported.splitlines(), PACKAGES, strict=True):
        name, file, modules = line.split()
        assert name == package
        assert Path(file).is_relative_to(full.folder)
        assert int(modules) > 10


def test_the_changelog_names_the_version() -> None:
    assert TABLE["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_a_bucket_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "boto3", "lmeraser.store.s3")
    with pytest.raises(MissingExtraError, match=r"'boto3'.*pip install 'lmeraser\[s3\]'"):
        open_store("s3://bucket/prefix")


@pytest.mark.parametrize("kind", ["digits", "glyphs", "coloured_digits", "coloured_glyphs"])
def test_bundled_rows_without_their_extra_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, kind: Literal["digits", "glyphs", "coloured_digits", "coloured_glyphs"]
) -> None:
    hide(monkeypatch, "sklearn", "lmeraser.data.demo.bundled", "lmeraser.data.demo.coloured")
    with pytest.raises(MissingExtraError, match=r"'sklearn'.*pip install 'lmeraser\[demo\]'"):
        open_source(SourceConfig(kind))


def test_a_command_without_the_server_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "ray", "cluster.service", "cluster.runtime", "serving.app", "actors.remote.process")
    monkeypatch.setattr(sys, "argv", ["lmeraser", "serve", "--store", "store"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 1
    assert "'ray', which is not installed; install it with: pip install 'lmeraser[server]'" in capsys.readouterr().err


def test_other_failed_imports_are_raised_as_they_are() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"lmeraser\.no_such_module"), needs_extra("server"):
        __import__("lmeraser.no_such_module")
    with pytest.raises(ImportError, match="no_such_name"), needs_extra("server"):
        raise ImportError("cannot import name 'no_such_name'")


def hide(monkeypatch: pytest.MonkeyPatch, package: str, *importers: str) -> None:
    """Have a package look as if it were not installed to modules that are imported again."""
    for name in importers:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
