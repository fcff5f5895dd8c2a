"""Figures of a training for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from cluster.pretrain_worker import TrainingReport
from lmeraser.extras import needs_extra

_FLUSH_S = 10


class TrainingLog:
    """Writes event files, which `tensorboard --logdir` shows. A run that is continued goes on in another file."""

    def __init__(self, folder: Path) -> None:
        """Write below this folder.

        Raises:
            MissingExtraError: when tensorboardX, which writes them, is not installed.
        """
        with needs_extra("server"):
            from tensorboardX import SummaryWriter
        self._writer = SummaryWriter(str(folder), flush_secs=_FLUSH_S)

    def add(self, step: TrainingReport) -> None:
        """Add the figures of a report, by the number of the step."""
        for name, value in step.figures.items():
            self._writer.add_scalar(name, value, step.steps)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()
