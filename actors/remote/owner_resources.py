"""The resources that Ray reserves for an owner.

Legend: L blocks, D width, S tokens, T prompt tokens, B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import ray
from ray.exceptions import RayError

from actors.remote.placement import ACCELERATOR_LABEL, OWNERS_GPU_SHARE, Placement, numerics_selector
from lmeraser.config import OwnersConfig, StateConfig
from lmeraser.state.manifest import Manifest, load_part
from lmeraser.store import Store

# Ray counts in ten-thousandths. The coordinator limits concurrent tunings, so an owner reserves next to no CPU.
_CPU_SHARE = 0.001
# CUDA's context and kernels, before any tensor.
_CONTEXT_BYTES = 600_000_000
_GPU_REPLY_TIMEOUT_S = 60.0


def owner_placement(config: OwnersConfig, store: Store, manifest: Manifest) -> Placement:
    """Where the store's owners run: as configured, else with the share of a GPU that a tuning needs."""
    gpus = config.gpus_per_owner
    if gpus is None:
        gpus = _estimated_gpus(config, store, manifest) if manifest.config.backbone.device == "cuda" else 0.0
    numerics = numerics_selector(manifest.fingerprint)
    return Placement(_CPU_SHARE, gpus, config.accelerator, config.max_resident_owners, config.idle_s, numerics)


def gpu_share(needed_bytes: int | None, gpu_bytes: int | None) -> float:
    """The share of a GPU that an owner gets: as many owners as fit share a GPU; one has it if a size is unknown."""
    if needed_bytes is None or gpu_bytes is None:
        return OWNERS_GPU_SHARE
    owners = max(1, int(OWNERS_GPU_SHARE * gpu_bytes / needed_bytes))
    # Rounded down, so that as many as are meant fit.
    return math.floor(OWNERS_GPU_SHARE / owners * 10_000) / 10_000


def tuning_bytes(config: StateConfig, weights: Mapping[str, np.ndarray]) -> int | None:
    """An upper bound on the bytes of GPU memory that a tuning takes; None if the backbone is not a Vision Transformer.

    The sum of the weights in float32 and of what one batch keeps for the backward pass: 34 S B D bytes per block in
    half precision, which includes dropout masks, and 5 S S B bytes per attention head for its scores (Korthikanti et
    al., arXiv 2205.05198, section 4.1); twice that in float32.

    Args:
        config: its prompt, tuning and image size are used.
        weights: the backbone's, by name.
    """
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    embedding = weights.get("patch_embed.proj.weight")
    if not blocks or embedding is None or "cls_token" not in weights:
        return None
    width, _, _, patch_px = embedding.shape
    prompt = config.prompt.tokens if config.prompt.kind == "token" else 0
    tokens = (config.backbone.image_px // patch_px) ** 2 + weights["cls_token"].shape[1] + prompt
    # timm's heads have 64 features, unless the configuration says otherwise.
    heads = config.backbone.model_args.get("num_heads", max(1, width // 64))
    kept: int = 2 * tokens * config.tuning.batch_rows * (34 * width + 5 * tokens * heads)
    parameters = sum(array.size for array in weights.values())
    return _CONTEXT_BYTES + 4 * parameters + len(blocks) * kept


def _estimated_gpus(config: OwnersConfig, store: Store, manifest: Manifest) -> float:
    return gpu_share(tuning_bytes(manifest.config, load_part(store, manifest, "backbone")), _gpu_bytes(config))


def _gpu_bytes(config: OwnersConfig) -> int | None:
    """The memory in bytes of a GPU of the cluster; None if none answers."""
    label = {ACCELERATOR_LABEL: config.accelerator} if config.accelerator else None
    reply = ray.remote(_memory_of_gpu).options(num_cpus=0, num_gpus=0.01, label_selector=label).remote()
    try:
        size: int = ray.get(reply, timeout=_GPU_REPLY_TIMEOUT_S)
        return size
    except RayError:
        ray.cancel(reply, force=True)
        return None


def _memory_of_gpu() -> int:
    import torch

    # The first of the GPUs that Ray shows to this process.
    return int(torch.cuda.get_device_properties("cuda:0").total_memory)
