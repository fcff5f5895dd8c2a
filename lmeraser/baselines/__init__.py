"""Other ways to forget, over the project's own backbone, tuning and heads: what ours is measured against.

Each method is a frozen dataclass: ``fit`` makes it from rows, ``without`` gives what is left after a deletion, and
``scores`` answers. They keep no store, no log and no receipts; they are for benchmarks.
"""

from __future__ import annotations

from lmeraser.baselines.clustered import Clustered
from lmeraser.baselines.cost import Cost, measured
from lmeraser.baselines.published import Published, PublishedConfig
from lmeraser.baselines.retrain import Retrain
from lmeraser.baselines.ridge import SharedHeadOnly
from lmeraser.baselines.sampled import Sampled
from lmeraser.baselines.sisa import Sisa

__all__ = [
    "Clustered",
    "Cost",
    "Published",
    "PublishedConfig",
    "Retrain",
    "Sampled",
    "SharedHeadOnly",
    "Sisa",
    "measured",
]
