"""Which kernels the numeric libraries choose on this machine: what of a processor can change a result's bits.

Libraries ask the processor for its vendor, family, model and vector instructions, and then choose kernels. All other
flags that a kernel lists, and the name of the model, change no bit. Each library can be told which kernels to use by an
environment variable, so that unlike machines agree (docs/design.md, section 1).
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

# What each of PyTorch's sets of kernels needs, the best first (aten/src/ATen/native/DispatchStub.cpp).
_TORCH = {
    "AVX512": frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl", "fma"}),
    "AVX2": frozenset({"avx2", "fma"}),
}
TORCH_VARIABLE = "ATEN_CPU_CAPABILITY"
# These limit oneDNN and MKL, which choose by the processor otherwise.
PINS = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
_BY_PROCESSOR = "by processor"
_NOT_LISTED = "not listed"


def processor(cpuinfo: Mapping[str, str], machine: str) -> str:
    """The processor as libraries tell processors apart.

    Args:
        cpuinfo: from :func:`read_cpuinfo`.
        machine: the architecture, such as x86_64.
    """
    x86 = [cpuinfo.get(name) for name in ("vendor_id", "cpu family", "model")]
    if None not in x86:
        return f"{machine} {x86[0]} family {x86[1]} model {x86[2]}"
    arm = [cpuinfo.get(name, "?") for name in ("CPU implementer", "CPU part")]
    return f"{machine} implementer {arm[0]} part {arm[1]}"


def torch_kernels(flags: Collection[str], environment: Mapping[str, str]) -> str:
    """The set of kernels that PyTorch uses; what ``torch.backends.cpu.get_cpu_capability()`` says, without torch."""
    best = next((name for name, needed in _TORCH.items() if needed <= set(flags)), "DEFAULT")
    wanted = environment.get(TORCH_VARIABLE, "").upper()
    return wanted if wanted in (*_TORCH, "DEFAULT") else best


def other_kernels(environment: Mapping[str, str]) -> str:
    """What limits the kernels of the libraries that do not say which they use: oneDNN and MKL."""
    pinned = [f"{name} {environment[name]}" for name in PINS if environment.get(name)]
    return ", ".join(pinned) or _BY_PROCESSOR


def numpy_kernels() -> str:
    """The instruction sets that NumPy has kernels for and that this processor has."""
    # What numpy.show_runtime() prints; there is no other way to it.
    umath: Any = import_module("numpy._core._multiarray_umath")
    return " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)) or "baseline"


def blas_kernels() -> str:
    """The kernels that each OpenBLAS has chosen: those of FAISS, NumPy and SciPy."""
    import faiss  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    chosen = {
        f"{Path(library['filepath']).parent.name.partition('.')[0]} {library.get('architecture', _NOT_LISTED)}"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }
    return ", ".join(sorted(each for each in chosen if each.startswith(("faiss", "numpy", "scipy"))))


def faiss_kernels() -> str:
    """The build of FAISS that its loader has chosen."""
    import faiss  # noqa: F401

    loaded = (name.rpartition("swigfaiss")[2] for name in sys.modules if name.startswith("faiss.swigfaiss"))
    return " ".join(sorted(name.strip("_") or "generic" for name in loaded))


def read_cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The fields of the first processor; empty where there is no such file."""
    fields: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def flags_of(cpuinfo: Mapping[str, str]) -> frozenset[str]:
    """The flags of a processor."""
    return frozenset(cpuinfo.get("flags", cpuinfo.get("Features", "")).split())


def kernels(environment: Mapping[str, str]) -> dict[str, str]:
    """Everything that this module knows of this machine."""
    cpuinfo = read_cpuinfo()
    return {
        "processor": processor(cpuinfo, platform.machine()),
        "torch_kernels": torch_kernels(flags_of(cpuinfo), environment),
        "numpy_kernels": numpy_kernels(),
        "blas_kernels": blas_kernels(),
        "faiss_kernels": faiss_kernels(),
        "other_kernels": other_kernels(environment),
    }
