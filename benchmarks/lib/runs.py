"""The runs of each setting: the essential ones, and more options of each method."""

from __future__ import annotations

from benchmarks.lib.methods import Run

_RATE = 10.0
SHARED_HEAD_ONLY, RETRAIN, OURS = Run("ridge", (("depths", "several"),)), Run("retrain"), Run("ours")
ESSENTIAL = (
    SHARED_HEAD_ONLY,
    RETRAIN,
    Run("published", (("clusters", 5), ("rate", _RATE))),
    Run("sisa", (("shards", 5), ("slices", 3))),
    OURS,
    Run("sampled", (("tuned_rows", 300),)),
)
# One prompt for all rows, tuned from the public prompt and for the closed-form head, as ours are.
_RETRAIN_AS_OURS = Run("retrain", (("tuned", "as_ours"),))
_SHARED_HEAD_PLAIN = Run("ridge", (("depths", "several"), ("public_epochs", 0)))
_MORE = (
    _SHARED_HEAD_PLAIN,
    Run("ours", (("public_epochs", 0),)),
    Run("ridge", (("depths", "last"), ("public_epochs", 0))),
    Run("ours", (("bound", 150),)),
    Run("ours", (("bound", 300),)),
    Run("ours", (("bound", 1000),)),
    Run("ours", (("epochs", 2),)),
    Run("retrain", (("epochs", 2),)),
    Run("sisa", (("shards", 20), ("slices", 3))),
    Run("published", (("clusters", 14), ("rate", _RATE))),
    Run("ours", (("kind", "pad"), ("pad_px", 4), ("public_epochs", 0))),
)
# Block at which prompts enter: half of the blocks, and three quarters.
_DEPTHS = {"digits": (3, 4), "mnist": (3, 4), "gtsrb": (6, 9), "cifar10": (6, 9)}
# Their backbone was trained on the public rows of the public prompt.
_GLYPHS = ("digits", "mnist")
# With so many rows a lower bound on cluster rows still gives many rows to each of many clusters.
_LARGE = ("mnist",)


def runs_of(setting: str, *, more_options: bool) -> list[Run]:
    """The runs of a setting, and with ``more_options`` several options of each method."""
    chosen = [*ESSENTIAL, _RETRAIN_AS_OURS]
    if setting in _GLYPHS:
        chosen.append(_SHARED_HEAD_PLAIN)
    if setting in _LARGE:
        chosen.append(Run("ours", (("bound", 200),)))
    if more_options:
        chosen += _MORE
        chosen += [Run("ours", (("depth", depth), ("public_epochs", 0))) for depth in _DEPTHS[setting]]
    return list(dict.fromkeys(chosen))
