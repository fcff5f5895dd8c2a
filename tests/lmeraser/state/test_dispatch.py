"""The fingerprint names the kernels that libraries choose, and nothing else of a processor."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from lmeraser.state import dispatch, fingerprint
from lmeraser.state.dispatch import flags_of, other_kernels, processor, read_cpuinfo, torch_kernels

AVX2 = "sse sse2 ssse3 sse4_1 sse4_2 avx f16c fma bmi1 bmi2 avx2"
AVX512 = f"{AVX2} avx512f avx512dq avx512bw avx512vl avx512cd"
EPYC = {"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17", "model name": "AMD EPYC 9B14", "stepping": "1"}


def kernels_with(flags: str, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(dispatch, "read_cpuinfo", lambda: {**EPYC, "flags": flags})
    return dispatch.kernels(environment)


def test_pytorch_uses_the_kernels_that_the_fingerprint_names() -> None:
    assert torch_kernels(flags_of(read_cpuinfo()), {}) == torch.backends.cpu.get_cpu_capability()


def test_flags_that_no_library_looks_at_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = kernels_with(AVX512, {}, monkeypatch)
    # What a newer kernel lists, or a hypervisor hides, of the same processor.
    assert kernels_with(f"{AVX512} ibrs ssbd arch_lbr user_shstk erms", {}, monkeypatch) == plain
    assert kernels_with(AVX512.replace("bmi2 ", ""), {}, monkeypatch) == plain
    assert kernels_with(AVX2, {}, monkeypatch) != plain


def test_unlike_processors_agree_where_the_kernels_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert kernels_with(AVX512, pins, monkeypatch) == kernels_with(AVX2, pins, monkeypatch)
    assert kernels_with(AVX512, pins, monkeypatch) != kernels_with(AVX512, {}, monkeypatch)
    assert other_kernels(pins) == "ONEDNN_MAX_CPU_ISA AVX2"


@pytest.mark.parametrize(
    ("changed", "differs"),
    [("model", True), ("cpu family", True), ("vendor_id", True), ("model name", False), ("stepping", False)],
)
def test_a_processor_is_its_vendor_family_and_model(changed: str, differs: bool) -> None:
    assert (processor({**EPYC, changed: "7"}, "x86_64") != processor(EPYC, "x86_64")) is differs


def test_an_arm_processor_is_named_too() -> None:
    assert processor({"CPU implementer": "0x41", "CPU part": "0xd40"}, "aarch64") == (
        "aarch64 implementer 0x41 part 0xd40"
    )


def test_what_an_operator_adds_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, label = fingerprint.fingerprint(8), fingerprint.label_of(fingerprint.fingerprint(8))
    monkeypatch.setenv(fingerprint.NUMERICS_VARIABLE, "image 7")
    assert fingerprint.fingerprint(8) == {**plain, "also": "image 7"}
    assert fingerprint.label_of(fingerprint.fingerprint(8)) != label
    assert fingerprint.label_of(plain) == fingerprint.label_of({**plain, "feature_batch": "1"}) == label
