"""The public surface of the package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import lmeraser
from lmeraser import errors

HEAVY = ("torch", "ray", "faiss", "scipy", "pyarrow", "timm", "sklearn", "matplotlib")


def loaded_by(statement: str, *libraries: str) -> str:
    """Those of the libraries that a fresh interpreter has loaded after the statement."""
    code = f"{statement}; import sys; print(*sorted({set(libraries)} & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_public_names_are_sorted_and_can_all_be_imported() -> None:
    assert lmeraser.__all__ == sorted(lmeraser.__all__)
    assert all(hasattr(lmeraser, name) for name in lmeraser.__all__)
    assert set(lmeraser.__all__) <= set(dir(lmeraser))


def test_the_list_of_public_names_is_complete() -> None:
    every_error = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    client = {"AsyncClient", "Client", "Cluster", "CommitSummary", "Deletion", "FailedImage", "ImageLike", "Outcome"}
    assert set(lmeraser.__all__) == every_error | client | {
        "Page",
        "Outcome",
        "Prediction",
        "Preview",
        "Receipt",
        "__version__",
    }


def test_the_version_is_that_of_the_installed_package() -> None:
    assert lmeraser.__version__.split(".")[0].isdecimal()


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Clients'"):
        lmeraser.Clients  # noqa: B018


def test_importing_the_package_does_not_load_the_client() -> None:
    assert loaded_by("import lmeraser", "httpx2", "numpy", "PIL", *HEAVY).strip() == ""


@pytest.mark.slow
def test_the_public_names_load_nothing_that_computes() -> None:
    assert loaded_by("from lmeraser import *", "httpx2", "numpy", *HEAVY).split() == ["httpx2", "numpy"]
    assert (
        loaded_by("import lmeraser.client.client, lmeraser.proof.receipts, lmeraser.state.keys", *HEAVY).strip() == ""
    )
