"""What a user may set about owners; none of it enters the state."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class OwnersConfig:
    """Where owners run, and how many of them have a process.

    The command that starts the coordinator decides; ``lmeraser rollout`` changes it.

    Attributes:
        gpus_per_owner: the part of a GPU that Ray reserves for an owner that tunes; one that only writes rows needs
            none. When absent: with ``backbone.device: cuda`` what a tuning needs of a GPU's memory, else none. Owners
            share 0.7 of each GPU, or one has it whole.
        accelerator: type of GPU that a node must have for owners and for the coordinator, as Ray names it ("A10G"); any
            when empty.
        max_resident_owners: owners that have a process at a time. The others are passive and come back when they are
            called; an erasure then waits about a second longer for the process. When absent: 16, or as many as can tune
            on the GPUs that there are and one more.
        idle_s: seconds without a call after which an owner that has tuned gives its memory back.
    """

    gpus_per_owner: float | None = Field(default=None, gt=0, le=1)
    accelerator: str = ""
    max_resident_owners: int | None = Field(default=None, ge=1)
    idle_s: float = Field(default=20.0, gt=0)
