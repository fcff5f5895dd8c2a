"""What Ray reserves for an owner, and how many clusters are tuned at a time."""

from __future__ import annotations

from collections.abc import Mapping

from actors.remote_owners import Share

# Ray counts in ten-thousandths. On a CPU the planner bounds the work, so an idle owner reserves next to nothing.
_CPU_SHARE = Share(num_cpus=0.001)
_GPU_SHARE = Share(num_cpus=0.001, num_gpus=0.02)
_TUNINGS_PER_GPU = 2


def owner_share(device: str) -> Share:
    """The reservation of one owner whose rows go through the backbone on this device."""
    return _GPU_SHARE if device == "cuda" else _CPU_SHARE


def tuning_slots(device: str, resources: Mapping[str, float]) -> int:
    """How many tunings run at a time: one a core, or two a GPU; at least one."""
    if device == "cuda":
        return max(1, _TUNINGS_PER_GPU * int(resources.get("GPU", 0)))
    return max(1, int(resources.get("CPU", 1)))
