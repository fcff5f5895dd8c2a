"""The public prompt: tuned on public rows, and used for every row without a specialist prompt (design 4.3).

It adapts the frozen backbone to its new image size and, as far as public rows show it, to linear heads. No private row
contributes to it, so a deletion leaves it unchanged (decision 25).

Legend: N public rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from torch import Tensor

from lmeraser.config import StateConfig
from lmeraser.data import Sample, decode_image
from lmeraser.hashing import draw_uint64
from lmeraser.learning.backbone import Backbone
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.progress import StepProgress


def learn_public_prompt(
    backbone: Backbone,
    config: StateConfig,
    samples: Iterable[Sample],
    report: StepProgress | None = None,
) -> Tensor | None:
    """Tune a prompt for predicting the labels of public rows.

    Args:
        backbone: frozen.
        config: its prompt, tuning and seed are used, with ``prompt.public_epochs`` as the number of epochs.
        samples: public rows; ``prompt.public_rows`` of them are drawn by a hash of their sample ids.
        report: called after each step with the number of steps done and the total.

    Returns:
        The prompt, float32, on the CPU; None where ``prompt.public_epochs`` is 0.

    Raises:
        UndecodableImageError: when an image cannot be decoded.
    """
    if config.prompt.public_epochs == 0:
        return None
    drawn = heapq.nsmallest(
        config.prompt.public_rows, samples, key=lambda sample: draw_uint64(config.seed, "rows", sample.sample_id)
    )
    names, label_N = np.unique([sample.label for sample in drawn], return_inverse=True)
    rows = TuningRows(
        tuple(sample.sample_id for sample in drawn),
        np.stack([decode_image(sample.image, backbone.image_px) for sample in drawn]),
        label_N,
    )
    # A single label gives the head nothing to learn, but is not an error.
    labels = tuple(map(str, range(max(2, len(names)))))
    tuning = replace(config.tuning, epochs=config.prompt.public_epochs)
    return tune_prompt(backbone, replace(config, labels=labels, tuning=tuning), rows, report=report)
