"""Where the weights that ``lmeraser pretrain`` trains are in the store.

Apart from the training, whose imports take half a second: every worker that makes a store imports this.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict

from lmeraser.config import Config
from lmeraser.hashing import canonical_json


def weights_name(config: Config) -> str:
    """The name in the store of the weights that this configuration trains.

    It contains a hash of everything that the weights depend on, because Ray Train silently resumes an old run of the
    same name.
    """
    inputs = {
        "backbone": asdict(config.backbone),
        "public": asdict(config.public),
        "pretrain": config.pretrain.decides_weights(),
        "seed": config.seed,
    }
    return f"public/trained-{hashlib.sha256(canonical_json(inputs)).hexdigest()[:16]}.safetensors"
