"""The runs of each setting: the methods that are compared, and the sweep from which the defaults were chosen."""

from __future__ import annotations

from typing import Any

from benchmarks.lib.plotting import NAMES
from benchmarks.lib.run import Run
from lmeraser.config import PartitionConfig, TuningConfig

_RATE = 10.0
SHARED_HEAD_ONLY, RETRAIN = Run("ridge", (("depths", "several"),)), Run("retrain")
# One prompt for all rows, tuned from the public prompt and for the closed-form head, as ours are.
RETRAIN_AS_OURS = Run("retrain", (("tuned", "as_ours"),))
SISA = Run("sisa", (("shards", 5), ("slices", 3)))
PUBLISHED = Run("published", (("clusters", 5), ("rate", _RATE)))
SAMPLED = Run("sampled", (("tuned_rows", 300),))

# Bounds on a cluster's rows that give one cluster, a few, and about sixteen, of the setting's rows.
BOUNDS = {
    "digits": (600, 250, 75),
    "mnist": (20_000, 10_000, 2_500),
    "fashion": (20_000, 10_000, 2_500),
    "gtsrb": (2_000, 1_000, 250),
    "cifar10": (1_000, 400, 120),
}
_CORESETS = (300, 600, 100, 200)
_EPOCHS = (4, 2)
# An eighth of an image on each side.
_PAD_PX = {"digits": 4, "mnist": 4, "fashion": 4, "gtsrb": 12, "cifar10": 12}


def ours(max_cluster_rows: int, coreset_rows: int, epochs: int, *prompt: tuple[str, Any]) -> Run:
    """Ours with these options."""
    tuning = (("max_cluster_rows", max_cluster_rows), ("coreset_rows", coreset_rows), ("epochs", epochs))
    return Run("ours", (*tuning, *prompt))


_EPOCHS_BY_DEFAULT = TuningConfig().epochs
# The library's defaults, whatever the setting's own configuration has.
OURS = ours(PartitionConfig().max_cluster_rows, TuningConfig().coreset_rows, _EPOCHS_BY_DEFAULT)
LARGER_CORESET = ours(PartitionConfig().max_cluster_rows, 600, _EPOCHS_BY_DEFAULT)
# The default before there were coresets: clusters of at most 600 rows, tuned on all of them.
PREVIOUS = ours(600, 600, 4)
ESSENTIAL = (SHARED_HEAD_ONLY, RETRAIN, PUBLISHED, SISA, OURS, SAMPLED)


def compared() -> list[Run]:
    """The methods that are compared, and the nearest rivals among the options of ours."""
    others = (SHARED_HEAD_ONLY, SAMPLED, RETRAIN_AS_OURS, RETRAIN, SISA, PUBLISHED)
    return list(dict.fromkeys((OURS, LARGER_CORESET, *others, PREVIOUS)))


def sweep_of(setting: str) -> list[Run]:
    """Ours with every bound, coreset and number of epochs, tokens first; what tells most comes first.

    Coresets larger than the bound are left out: they have the same rows as one of that size.
    """
    grid = [
        ours(bound, min(size, bound), epochs) for bound in BOUNDS[setting] for epochs in _EPOCHS for size in _CORESETS
    ]
    pad = [ours(BOUNDS[setting][0], size, 4, ("kind", "pad"), ("pad_px", _PAD_PX[setting])) for size in (300, 600)]
    return list(dict.fromkeys(grid + pad))


def label(method: str, options: dict[str, Any]) -> str:
    """A run in a few words."""
    match method:
        case "retrain":
            return f"{NAMES[method]}, tuned as ours" if "tuned" in options else NAMES[method]
        case "sisa":
            return f"{NAMES[method]}, S = {options['shards']}, R = {options['slices']}"
        case "sampled":
            return f"{NAMES[method]} of {options['tuned_rows']}"
        case "published":
            return f"{NAMES[method]}, {options['clusters']} clusters"
        case "ours" if "coreset_rows" in options:
            kind = f", pad of {options['pad_px']} px" if options.get("kind") == "pad" else ""
            bound, size, epochs = (f"{options[name]:,}" for name in ("max_cluster_rows", "coreset_rows", "epochs"))
            return f"{NAMES[method]}, at most {bound} rows, coreset {size}, {epochs} epochs{kind}"
    return NAMES[method]
