"""Rows that are functions of their numbers, and a method whose results follow from the bytes of rows.

They fill stores of millions of rows within minutes: nothing is decoded, and no backbone runs. An image is the number
and 64 bytes that follow from it. Features, prompts and prompted features are functions of these bytes, so that a state
is still what its rows give, byte for byte.

Legend: N rows, H head features, B bytes of an image, T tokens, D features of a token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace

import numpy as np

from lmeraser.config import StateConfig
from lmeraser.data import Sample
from lmeraser.learning.partition import Dendrogram, Partition, cut
from lmeraser.state.rows import RowTable

HEAD_DIM = 64
LABELS = tuple(f"label {number}" for number in range(10))
# As many tokens of as many features as a DeiT-Tiny has by default.
PROMPT_SHAPE_TD = (16, 192)
# Two anchors make a pair, ten pairs a group, and so on: 1, 5, 50 or 500 nodes have 20,000 rows each where all anchors
# have equally many. So max_cluster_rows 20,000 gives 500 clusters of 10 million rows, and 50 of a million.
_GROUPS = (2, 10, 10, 5)
ANCHORS = 1000
ROWS_OF_A_SUBJECT = 3
_NUMBER_BYTES = 8
_WORDS = HEAD_DIM // 8
# Features are in units of 1/256: about as large as real ones, which have unit variance.
_SCALE = 4


def dendrogram() -> Dendrogram:
    """The dendrogram over the anchors."""
    children: list[tuple[int, int]] = []

    def joined(group: Sequence[int]) -> int:
        node = group[0]
        for other in group[1:]:
            children.append((node, other))
            node = ANCHORS + len(children) - 1
        return node

    nodes: Sequence[int] = range(ANCHORS)
    for size in _GROUPS:
        nodes = [joined(nodes[start : start + size]) for start in range(0, len(nodes), size)]
    return Dendrogram(np.array(children, np.int32))


def anchors_of(numbers_N: np.ndarray) -> np.ndarray:
    """The anchor of each row, int32."""
    return (numbers_N % ANCHORS).astype(np.int32)


def labels_of(numbers_N: np.ndarray) -> np.ndarray:
    """The label of each row, int64. Rows at one anchor have all labels in turn."""
    return (numbers_N // ANCHORS % len(LABELS)).astype(np.int64)


def images_of(numbers_N: np.ndarray) -> np.ndarray:
    """The image of each row, uint8 [N, B]: its number, and bytes that follow from the number."""
    numbers_N = numbers_N.astype("<u8")
    words_NW = _mixed(numbers_N[:, None] * np.uint64(_WORDS) + np.arange(_WORDS, dtype=np.uint64))
    parts = (numbers_N[:, None], words_NW.astype("<u8"))
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).view(np.uint8)


def features_of(images_NB: np.ndarray) -> np.ndarray:
    """Head features of images, int16 [N, H], under no prompt."""
    return images_NB[:, _NUMBER_BYTES:].view(np.int8).astype(np.int16) * np.int16(_SCALE)


def sample_id(number: int) -> str:
    """The id of a row. Ids are in the order of the numbers."""
    return f"row-{number:08d}"


def subject_id(number: int) -> str:
    """The subject of a row."""
    return f"person-{number // ROWS_OF_A_SUBJECT:08d}"


def table_of(numbers_N: np.ndarray) -> RowTable:
    """The rows with these numbers, which ascend."""
    images_NB = images_of(numbers_N)
    numbers = numbers_N.tolist()
    return RowTable(
        sample_ids=tuple(map(sample_id, numbers)),
        subject_ids=tuple(map(subject_id, numbers)),
        labels_N=labels_of(numbers_N),
        images=tuple(image.tobytes() for image in images_NB),
        anchors_N=anchors_of(numbers_N),
        features_NH=features_of(images_NB),
    )


def sample(number: int) -> Sample:
    """The row with this number as a source gives it."""
    table = table_of(np.array([number]))
    return Sample(table.sample_ids[0], table.subject_ids[0], int(table.labels_N[0]), table.images[0])


class NumberedMethod:
    """Stands for :class:`lmeraser.state.pipeline.Pipeline`."""

    def __init__(self, config: StateConfig) -> None:
        self.config = config
        self.dendrogram = dendrogram()
        self.feature_map = SimpleNamespace(width=HEAD_DIM)
        self.prompt_kind = SimpleNamespace(shape=PROMPT_SHAPE_TD)
        self.backbone = SimpleNamespace(device="cpu")

    def rows(self, samples: Iterable[Sample]) -> RowTable:
        """The rows of these samples."""
        return table_of(np.sort(_numbers_in(_stacked([each.image for each in samples]))))

    def coreset(self, rows: RowTable) -> RowTable:
        """The rows of a cluster that its prompt is tuned on."""
        return rows.coreset(self.config.seed, self.config.tuning.coreset_rows)

    def tuned_prompt(
        self,
        rows: RowTable,
        report: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """A prompt that is a function of the coreset, float32 [T, D]."""
        if report is not None:
            report(1, 1)
        generator = np.random.Generator(np.random.PCG64(int(rows.digest(), 16)))
        return generator.standard_normal(PROMPT_SHAPE_TD, np.float32)

    def embedded(self, images: Sequence[bytes], prompt: np.ndarray) -> np.ndarray:
        """Features that are a function of the images and the prompt, int16 [N, H]."""
        shift_H = np.frombuffer(hashlib.sha512(prompt.tobytes()).digest(), np.int8)
        return features_of(_stacked(images)) + shift_H.astype(np.int16)

    def partition(self, anchors_N: np.ndarray, bits_N: np.ndarray) -> Partition:
        """The prompt clusters of rows at these anchors with these bits."""
        return cut(self.dendrogram, anchors_N, bits_N, self.config.partition.max_cluster_rows)


def _stacked(images: Sequence[bytes]) -> np.ndarray:
    """Images as uint8 [N, B]."""
    return np.frombuffer(b"".join(images), np.uint8).reshape(-1, _NUMBER_BYTES + HEAD_DIM)


def _numbers_in(images_NB: np.ndarray) -> np.ndarray:
    """The numbers of the rows with these images, int64 [N]."""
    return np.ascontiguousarray(images_NB[:, :_NUMBER_BYTES]).view("<u8").reshape(-1).astype(np.int64)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Uniform bits from each value, uint64: the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed
