"""Rows of the live generation as a draft has them (design 7): what follows from the same is taken over.

Legend: N rows, C labels of the live generation, P pixels per side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from lmeraser.data import Sample
from lmeraser.errors import ConfigError, DataError
from lmeraser.state.manifest import Manifest
from lmeraser.state.provenance import anchors_origin, features_origin
from lmeraser.state.rows import RowTable

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline

_REMOVED = -1


class DraftRows:
    """Turns rows of the live generation into rows of the draft.

    Attributes:
        computes: what images must pass through: the whole backbone, its routing blocks, or nothing.
    """

    def __init__(
        self, live: Manifest, draft: Manifest, renamed: Mapping[str, str], pipeline: Callable[[], Pipeline]
    ) -> None:
        """Rows of a draft.

        Args:
            live, draft: of both generations.
            renamed: live labels that have another name in the draft.
            pipeline: gives the draft's, which is asked for only if it is needed.

        Raises:
            ConfigError: see :func:`label_positions`.
        """
        self._live_labels = live.config.labels
        self._positions_C = label_positions(live.config.labels, draft.config.labels, renamed)
        self._same_anchors = anchors_origin(live) == anchors_origin(draft)
        self._same_features = features_origin(live) == features_origin(draft)
        self._pipeline = pipeline

    @property
    def computes(self) -> Literal["backbone", "routing blocks", "nothing"]:
        if not self._same_features:
            return "backbone"
        return "nothing" if self._same_anchors else "routing blocks"

    def of(self, table: RowTable) -> RowTable:
        """These rows in the draft.

        Raises:
            DataError: when rows have a label that the draft does not have.
        """
        labels_N = self._positions_C[table.labels_N]
        if (labels_N == _REMOVED).any():
            raise DataError(_no_label(self._live_labels[table.labels_N[labels_N == _REMOVED][0]]))
        if self.computes == "nothing":
            return replace(table, labels_N=labels_N)
        if self._same_features:
            return replace(table, labels_N=labels_N, anchors_N=self._pipeline().anchors(table.images))
        columns = zip(table.sample_ids, table.subject_ids, labels_N.tolist(), table.images, strict=True)
        computed = self._pipeline().rows(Sample(*column) for column in columns)
        return replace(computed, anchors_N=table.anchors_N) if self._same_anchors else computed


def check_labels(
    live: tuple[str, ...], draft: tuple[str, ...], renamed: Mapping[str, str], present: Collection[int]
) -> None:
    """Check that every label that rows have is among those of the draft.

    Args:
        live, draft: the labels of both generations.
        renamed: live labels that have another name in the draft.
        present: positions of the live labels that rows have.

    Raises:
        ConfigError: when one is not, or see :func:`label_positions`.
    """
    positions_C = label_positions(live, draft, renamed)
    for position in sorted(present):
        if positions_C[position] == _REMOVED:
            raise ConfigError(_no_label(live[position]))


def _no_label(label: str) -> str:
    return (
        f"there are rows with the label {label!r}, which the new configuration does not have: map it to another one "
        f"with --label {label}=OTHER, or delete these rows first"
    )


def label_positions(live: tuple[str, ...], draft: tuple[str, ...], renamed: Mapping[str, str]) -> np.ndarray:
    """Where each label of the live generation is among those of the draft, int64 [C]; -1 for one that is not there.

    Raises:
        ConfigError: when something is renamed that is not a live label, or to what is not a label of the draft.
    """
    for old, new in renamed.items():
        if old not in live:
            raise ConfigError(
                f"--label renames {old!r}, which is not a label of the store; its labels are {_few(live)}"
            )
        if new not in draft:
            raise ConfigError(
                f"--label maps {old!r} to {new!r}, which is not a label of the new configuration; its labels are "
                f"{_few(draft)}"
            )
    position = {label: place for place, label in enumerate(draft)}
    return np.array([position.get(renamed.get(label, label), _REMOVED) for label in live], np.int64)


def _few(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:10]) + (", …" if len(labels) > 10 else "")
