"""The fingerprint of the numerics: everything besides the inputs that can change a result's bits."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from lmeraser.config import BackboneConfig
from lmeraser.errors import BackboneError, FingerprintError

_LIBRARIES = ("numpy", "pillow", "scipy", "timm", "torch")


def fingerprint(feature_batch: int, accelerator: str = "") -> dict[str, str]:
    """Everything besides the inputs that can change a result's bits: processor, libraries, threads, dtype.

    Args:
        feature_batch: rows in one batch of the feature extraction.
        accelerator: name of the GPU; empty on the CPU.
    """
    # Imported here: an owner does not need FAISS, which takes 100 MB per process with its CUDA kernels.
    import faiss

    return {
        "processor": _processor(),
        "accelerator": accelerator,
        "threads": "1",
        "dtype": "float32",
        "feature_batch": str(feature_batch),
        "faiss": str(faiss.__version__),
        **_versions(),
    }


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


def check_fingerprint(stored: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Refuse to compute under numerics that may give other bits (decision 12).

    Raises:
        FingerprintError: when the two differ; the message names what differs.
    """
    differing = [
        f"{name} is {here.get(name)!r} here, {stored.get(name)!r} in the store"
        for name in sorted(set(stored) | set(here))
        if stored.get(name) != here.get(name)
    ]
    if differing:
        raise FingerprintError("the store was created under other numerics: " + "; ".join(differing))


@functools.cache
def _versions() -> dict[str, str]:
    """Of the libraries that this process uses; each is read from a file of the installation, which takes 4 ms."""
    return {name: version(name) for name in _LIBRARIES}


@functools.cache
def _processor() -> str:
    """Model and instruction sets: math libraries choose their kernels by both."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = hashlib.sha256(" ".join(sorted(fields.get("flags", "").split())).encode()).hexdigest()[:8]
    return f"{platform.machine()} {fields.get('model name', platform.processor())} flags {flags}"
