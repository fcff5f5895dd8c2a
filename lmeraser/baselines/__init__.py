"""Other unlearning methods over the project's own backbone, tuning and heads, which ours is compared with.

Each method is a frozen dataclass: ``fit`` makes it from rows, ``without`` gives the method after a deletion, and
``scores`` predicts. They have no store, no log and no receipts; they are for benchmarks.
"""

from __future__ import annotations

from lmeraser.baselines.cluster_prompts import ClusterPrompts
from lmeraser.baselines.cost import Cost, measured
from lmeraser.baselines.published_lmeraser import PublishedConfig, PublishedLMEraser
from lmeraser.baselines.retraining import Retraining
from lmeraser.baselines.sample_prompt import SamplePrompt
from lmeraser.baselines.shared_head_only import SharedHeadOnly
from lmeraser.baselines.sisa import Sisa

__all__ = [
    "ClusterPrompts",
    "Cost",
    "PublishedConfig",
    "PublishedLMEraser",
    "Retraining",
    "SamplePrompt",
    "SharedHeadOnly",
    "Sisa",
    "measured",
]
