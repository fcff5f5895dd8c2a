"""Options for owners; they do not affect the state root."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class OwnersConfig:
    """Where owners run, and how many of them have a process.

    Set by the command that starts the coordinator; ``lmeraser rollout`` changes it.

    Attributes:
        gpus_per_owner: share of a GPU that Ray reserves for an owner that tunes; one that only writes rows needs no
            GPU. When absent: with ``backbone.device: cuda``, what a tuning needs of a GPU's memory, otherwise 0. Owners
            share 0.7 of each GPU, or one owner has a GPU to itself.
        accelerator: type of GPU that a node must have for owners and for the coordinator, as Ray names it ("A10G"); any
            type when empty.
        max_resident_owners: how many owners have a process at the same time. The others get one when they are called,
            which delays an erasure by about a second. When absent: 16, or one more than can tune on the available GPUs.
        idle_s: seconds without a call after which an owner that has tuned frees its memory. If there are no more
            clusters than owners that can tune at the same time, each stays, and keeps its device and the backbone.
    """

    gpus_per_owner: float | None = Field(default=None, gt=0, le=1)
    accelerator: str = ""
    max_resident_owners: int | None = Field(default=None, ge=1)
    idle_s: float = Field(default=20.0, gt=0)
