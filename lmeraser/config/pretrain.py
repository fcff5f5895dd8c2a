"""Options for training the backbone; they affect the state root only through the weights."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class PretrainConfig:
    """Training the backbone on public rows with Ray Train.

    Attributes:
        epochs: sweeps over the public rows.
        batch_rows: rows in one step of one worker.
        learning_rate: peak rate of AdamW; it falls to zero on a half cosine.
        workers: number of Ray Train workers.
        max_failures: how often a run may lose a worker and continue from its last checkpoint.
    """

    epochs: int = Field(default=10, ge=1)
    batch_rows: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=0.002, gt=0)
    workers: int = Field(default=2, ge=1)
    max_failures: int = Field(default=2, ge=0)
