"""What is installed is pinned with hashes, says nothing of where it comes from, and is what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
RUNTIME, DEVELOPMENT, SBOM = "requirements.txt", "requirements-dev.txt", "requirements-sbom.txt"


def pins(name: str) -> dict[str, tuple[Requirement, frozenset[str]]]:
    """Each requirement of a file and the hashes of its files, by name."""
    found = {}
    for entry in (ROOT / name).read_text().replace("\\\n", "").splitlines():
        if entry.startswith("#"):
            continue
        requirement, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        parsed = Requirement(requirement)
        assert canonicalize_name(parsed.name) not in found
        found[canonicalize_name(parsed.name)] = (parsed, frozenset(hashes))
    return found


def project() -> tuple[list[Requirement], list[Requirement]]:
    """What the product needs, and what only its development needs."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = table["dependencies"], table["optional-dependencies"]["dev"]
    runtime, development = ([Requirement(text) for text in one] for one in asked)
    return runtime, development


@pytest.mark.parametrize("name", [RUNTIME, DEVELOPMENT, SBOM])
def test_each_package_has_one_version_and_hashes_and_no_place(name: str) -> None:
    for requirement, hashes in pins(name).values():
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert requirement.url is None
        assert hashes and all(re.fullmatch(r"[0-9a-f]{64}", one) for one in hashes)
    # Where packages come from is the business of each user's pip.
    assert not re.search(r"://|index-url|find-links|trusted-host", (ROOT / name).read_text())


def test_the_pins_are_of_what_the_project_asks_for() -> None:
    for asked, name in zip(project(), (RUNTIME, DEVELOPMENT), strict=True):
        there = pins(name)
        for requirement in asked:
            found, _ = there[canonicalize_name(requirement.name)]
            assert next(iter(found.specifier)).version in requirement.specifier, requirement


def test_a_developer_has_what_the_product_has_and_the_product_no_tools() -> None:
    runtime, development = pins(RUNTIME), pins(DEVELOPMENT)
    for name, (requirement, hashes) in runtime.items():
        assert (str(development[name][0].specifier), development[name][1]) == (str(requirement.specifier), hashes), name
    assert not {canonicalize_name(requirement.name) for requirement in project()[1]} & set(runtime)


def test_nothing_that_a_package_of_the_product_needs_is_missing() -> None:
    runtime = pins(RUNTIME)
    for name, (requirement, _) in runtime.items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed; `make .venv/.installed` does it")
        for text in requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in runtime, f"{name} needs {needed.name}"


def test_no_tool_makes_every_import_of_ray_slow() -> None:
    # Ray imports jsonschema, which imports this where it is installed; it compiles a grammar for a second.
    assert "rfc3987-syntax" not in pins(DEVELOPMENT)
