"""Documents name what is there: files, headings, commands and their options."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ray.scripts.scripts import cli as ray_cli
from small_system import System

from cluster.cli.app import app
from lmeraser.deletion import DeletionRequest

ROOT = Path(__file__).parent.parent
ROOMS = ("lmeraser", "actors", "serving", "cluster", "benchmarks", "tests", "deploy", "examples", "docs")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
DOCUMENTS += sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.md") if "swagger-ui" not in path.parts)
# Not of one class: typer contains a copy of click.
COMMANDS: dict[str, Any] = {"lmeraser": typer.main.get_command(app), "ray": ray_cli}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def headings(document: Path) -> set[str]:
    """Anchors as they are made of headings."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"https?:", target):
            continue
        name, _, heading = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), f"{target} in {named(document)}"
        assert not heading or heading in headings(file), f"{target} in {named(document)}"


def commands_in(document: Path) -> Iterator[list[str]]:
    """Commands of this project and of Ray, as their blocks have them, what follows `--` as one of its own."""
    text = document.read_text()
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in re.split(r" -- | \| |&& |[;&]$|\$\(|'(?=lmeraser|ray )", line):
            found = re.match(r"\s*(?:\w+=\S+ )*((?:lmeraser|ray) .*)", part)
            if found:
                command = re.sub(r"\s(?:\d?>|#|  ).*$", "", found[1]).rstrip(" '&)")
                yield shlex.split(command, comments=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_commands_and_their_options_exist(document: Path) -> None:
    for program, *arguments in commands_in(document):
        command = COMMANDS[program]
        words = iter(arguments)
        while hasattr(command, "commands"):
            word = next(words, None)
            if word is None:
                break
            assert word in command.commands, f"{program} {' '.join(arguments)} in {named(document)}"
            command = command.commands[word]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in {*known, "--help"}, (
                    f"{program} {' '.join(arguments)} in {named(document)}"
                )


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_what_its_python_imports_is_there(document: Path) -> None:
    ours = r"^\s*from ((?:lmeraser|actors|serving|cluster|benchmarks)[\w.]*) import ([\w, ]+)"
    for module, names in re.findall(ours, document.read_text(), re.MULTILINE):
        for name in names.split(","):
            assert hasattr(importlib.import_module(module), name.split(" as ")[0].strip()), f"{name} of {module}"


def test_every_environment_variable_is_in_the_reference() -> None:
    read = set()
    for room in ("lmeraser", "actors", "serving", "cluster"):
        for file in (ROOT / room).rglob("*.py"):
            read |= set(re.findall(r"[\"`](LMERASER_[A-Z_]+)[\"`]", file.read_text()))
    page = (ROOT / "docs" / "reference" / "environment.md").read_text()
    assert read and read == set(re.findall(r"`(LMERASER_[A-Z_]+)`", page))


def test_the_readme_can_be_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1200


@pytest.mark.slow
def test_the_privacy_officers_guide_explains_every_field_of_a_receipt(system_of: Callable[..., System]) -> None:
    system = system_of("minute", 30)
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(subject_ids=("u12",)))
    while coordinator.step():
        pass
    guide = (ROOT / "docs" / "guides" / "privacy-officer.md").read_text()
    table = guide.partition("| field | what it says |")[2].partition("\n\n")[0]
    explained = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")
    }
    assert explained == set(coordinator.receipt(deletion.id))
