"""The fingerprint of the numerics: everything besides the inputs that can change a result's bits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from lmeraser.config import BackboneConfig
from lmeraser.errors import BackboneError, FingerprintError
from lmeraser.state.digests import json_digest
from lmeraser.state.dispatch import kernels

# What an operator knows of a machine and this module does not, such as the build of a library.
NUMERICS_VARIABLE = "LMERASER_NUMERICS"
_LIBRARIES = ("numpy", "pillow", "scipy", "timm", "torch")


def fingerprint(feature_batch: int, accelerator: str = "") -> dict[str, str]:
    """Everything besides the inputs that can change a result's bits: kernels, libraries, threads, dtype.

    Args:
        feature_batch: rows in one batch of the feature extraction.
        accelerator: name of the GPU; empty on the CPU.
    """
    return {
        **_machine(os.environ.get(NUMERICS_VARIABLE, "")),
        "accelerator": accelerator,
        "feature_batch": str(feature_batch),
    }


def fingerprint_here(stored: Mapping[str, str]) -> dict[str, str]:
    """What a stored fingerprint would be under the numerics of this process, on the same GPU if it is of one."""
    return fingerprint(int(stored["feature_batch"]), stored["accelerator"])


def label_of(numerics: Mapping[str, str]) -> str:
    """What nodes with this fingerprint have in common, as the value of a label of a Ray node."""
    return json_digest({**numerics, "feature_batch": ""})[:16]


def accelerator_name(config: BackboneConfig) -> str:
    """The name of the GPU that extracts features; empty on the CPU.

    Raises:
        BackboneError: when the configuration asks for a GPU and this process has none.
    """
    if config.device == "cpu":
        return ""
    # Imported here: an owner that erases needs no torch.
    import torch

    if not torch.cuda.is_available():
        raise BackboneError("backbone.device is cuda, but this process has no GPU")
    return str(torch.cuda.get_device_name())


def differing(stored: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What differs between two fingerprints, a phrase each; empty if nothing does."""
    return [
        f"{name} is {here.get(name)!r} here, {stored.get(name)!r} in the store"
        for name in sorted(set(stored) | set(here))
        if stored.get(name) != here.get(name)
    ]


def check_fingerprint(stored: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Refuse to compute under numerics that may give other bits (decision 12).

    Raises:
        FingerprintError: when the two differ; the message names what differs.
    """
    if phrases := differing(stored, here):
        raise FingerprintError(
            f"the store was computed under other numerics: {'; '.join(phrases)}. `lmeraser upgrade` computes it again "
            "under those of this machine; until then it serves, and accepts and erases deletions, but tunes nothing"
        )


@cache
def _machine(also: str) -> dict[str, str]:
    # Imported here: an owner does not need FAISS, which takes 100 MB per process with its CUDA kernels.
    import faiss

    return {
        **kernels(os.environ),
        "threads": "1",
        "dtype": "float32",
        "faiss": str(faiss.__version__),
        **{name: version(name) for name in _LIBRARIES},
        **({"also": also} if also else {}),
    }
