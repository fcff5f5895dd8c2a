"""What derived objects follow from: by it another generation knows what it need not compute again (design 7).

Two generations share the features of a row, a prompt, or the features under a prompt exactly if everything that these
follow from is the same. The fingerprint is always among it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lmeraser.config import StateConfig
from lmeraser.hashing import HashKey
from lmeraser.state.digests import json_digest, state_leaf
from lmeraser.state.fingerprint import fingerprint_here
from lmeraser.state.manifest import Manifest
from lmeraser.state.segment import SegmentIndex

_CORESET_CONTENTS = "coreset contents"


def coreset_contents(hash_key: HashKey, index: SegmentIndex, config: StateConfig) -> str:
    """The keyed digest of all that a tuning reads of a cluster's rows, which have this index."""
    return state_leaf(hash_key, _CORESET_CONTENTS, index.coreset_contents_digest(config.tuning.coreset_rows))


def anchors_origin(manifest: Manifest) -> str:
    """SHA-256 over what the nearest anchor of a row follows from, besides its image."""
    partition = manifest.config.partition
    return json_digest(
        [
            _backbone_origin(manifest),
            manifest.public_digests["partition"],
            partition.routing_block,
            partition.routing_pool,
        ]
    )


def features_origin(manifest: Manifest) -> str:
    """SHA-256 over what a row's features follow from, besides its image and its prompt."""
    config = manifest.config
    digests = [manifest.public_digests.get(part) for part in ("features", "prompt")]
    return json_digest([_backbone_origin(manifest), digests, asdict(config.prompt), asdict(config.heads)])


def prompts_origin(manifest: Manifest) -> str:
    """SHA-256 over what a cluster's prompt follows from, besides the contents of its coreset."""
    config = manifest.config
    return json_digest([features_origin(manifest), asdict(config.tuning), config.seed])


def same_public_artifacts(live: Manifest, config: StateConfig) -> bool:
    """Whether another configuration has the public artifacts of a store here, if public rows and weights are the same.

    Args:
        live: of the store.
        config: the other configuration.
    """
    return _public_origin(live.config, live.fingerprint) == _public_origin(config, fingerprint_here(live.fingerprint))


def _public_origin(config: StateConfig, fingerprint: Mapping[str, str]) -> str:
    """SHA-256 over what the public artifacts follow from, besides the public rows and the backbone's weights."""
    values = asdict(config)
    # The number of rows of a cluster, and when one is tuned, matter to private rows only.
    partition = {name: values["partition"][name] for name in ("anchors", "routing_block", "routing_pool")}
    named: dict[str, Any] = {name: values[name] for name in ("seed", "backbone", "prompt", "heads")}
    tuning = {name: each for name, each in values["tuning"].items() if name not in ("epochs", "coreset_rows")}
    public_tuning = tuning if config.prompt.public_epochs else None
    return json_digest([named, partition, public_tuning, dict(fingerprint)])


def _backbone_origin(manifest: Manifest) -> str:
    backbone = asdict(manifest.config.backbone)
    # Where the weights came from does not matter: their digest does.
    del backbone["weights"]
    return json_digest([backbone, manifest.public_digests["backbone"], dict(manifest.fingerprint)])
