"""Installed packages are pinned with hashes, name no place they come from, and are what pyproject.toml asks for."""

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
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in TABLE["optional-dependencies"].items()}
FEATURES = ("server", "s3", "demo", "audit")


def pins(name: str) -> dict[str, tuple[Requirement, frozenset[str]]]:
    """Each requirement of a file with the hashes of its files, by package name."""
    pinned: dict[str, tuple[Requirement, frozenset[str]]] = {}
    for entry in (ROOT / name).read_text().replace("\\\n", "").splitlines():
        if entry.startswith("#"):
            continue
        text, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        requirement = Requirement(text)
        assert canonicalize_name(requirement.name) not in pinned
        pinned[canonicalize_name(requirement.name)] = (requirement, frozenset(hashes))
    return pinned


def runtime_requirements() -> list[Requirement]:
    """What the product asks for, all extras included."""
    base = [Requirement(text) for text in TABLE["dependencies"]]
    return base + [requirement for name in FEATURES for requirement in EXTRAS[name]]


def tool_requirements() -> list[Requirement]:
    """What only development asks for."""
    return [requirement for requirement in EXTRAS["dev"] if requirement.name != "lmeraser"]


@pytest.mark.parametrize("name", [RUNTIME, DEVELOPMENT, SBOM])
def test_each_package_has_one_version_and_hashes_and_no_location(name: str) -> None:
    for requirement, hashes in pins(name).values():
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert requirement.url is None
        assert hashes and all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in hashes)
    # Where packages come from is the business of each user's pip.
    assert not re.search(r"://|index-url|find-links|trusted-host", (ROOT / name).read_text())


def test_every_extra_is_part_of_all_and_of_dev() -> None:
    assert set(EXTRAS) == {*FEATURES, "all", "dev"}
    (everything,) = EXTRAS["all"]
    assert everything.name == "lmeraser" and everything.extras == set(FEATURES)
    (product,) = (requirement for requirement in EXTRAS["dev"] if requirement.name == "lmeraser")
    assert product.extras == {"all"}


@pytest.mark.parametrize(
    ("name", "requirements"), [(RUNTIME, runtime_requirements()), (DEVELOPMENT, tool_requirements())]
)
def test_pinned_versions_satisfy_what_the_project_asks_for(name: str, requirements: list[Requirement]) -> None:
    pinned = pins(name)
    for requirement in requirements:
        pin, _ = pinned[canonicalize_name(requirement.name)]
        assert next(iter(pin.specifier)).version in requirement.specifier, requirement


def test_development_has_the_pins_of_the_product_and_the_product_has_no_tools() -> None:
    runtime, development = pins(RUNTIME), pins(DEVELOPMENT)
    for name, (requirement, hashes) in runtime.items():
        assert (str(development[name][0].specifier), development[name][1]) == (str(requirement.specifier), hashes), name
    assert not {canonicalize_name(requirement.name) for requirement in tool_requirements()} & set(runtime)


def test_every_dependency_of_a_pinned_package_is_pinned() -> None:
    runtime = pins(RUNTIME)
    for name, (requirement, _) in runtime.items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed; `make .venv/.installed` does it")
        for text in requires(name) or ():
            dependency = Requirement(text)
            if dependency.marker is None or dependency.marker.evaluate({"extra": ""}):
                assert canonicalize_name(dependency.name) in runtime, f"{name} needs {dependency.name}"


def test_no_tool_makes_every_import_of_ray_slow() -> None:
    # Ray imports jsonschema, which imports this where it is installed; it compiles a grammar for a second.
    assert "rfc3987-syntax" not in pins(DEVELOPMENT)
