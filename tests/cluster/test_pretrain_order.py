"""The order in which the workers of a training read rows, and how rows become batches, without Ray."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_system import LABELS, picture

from cluster.pretrain_order import Position, RowOrder
from cluster.pretrain_rows import RowBatches, TrainingRows, decoded_window
from lmeraser.config import ColumnsConfig, ImagesConfig, PretrainConfig, SourceConfig
from lmeraser.config.validation import validated
from lmeraser.data import decode_image
from lmeraser.errors import ConfigError
from lmeraser.learning.augmentation import Augmentation

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
PARTS = st.lists(st.integers(0, 9), min_size=1, max_size=40).map(tuple)


def parts_read(order: RowOrder, sweep: int) -> list[int]:
    return [part for window in order.windows(sweep) for part in window]


@unhurried
@given(PARTS, st.integers(1, 5), st.integers(1, 30), st.integers(0, 3))
def test_in_every_sweep_each_part_is_read_once_by_one_worker(
    part_rows: tuple[int, ...], workers: int, window_rows: int, sweep: int
) -> None:
    orders = [RowOrder(0, part_rows, rank, workers, window_rows) for rank in range(workers)]
    assert sorted(part for order in orders for part in parts_read(order, sweep)) == list(range(len(part_rows)))
    for order in orders:
        # All windows but the last are full.
        for window in order.windows(sweep)[:-1]:
            assert sum(part_rows[part] for part in window) >= window_rows


def test_the_order_follows_from_seed_and_sweep_alone() -> None:
    first, other, again = (RowOrder(seed, (3,) * 20, 0, 1, 12) for seed in (0, 1, 0))
    assert len({tuple(parts_read(each, sweep)) for each in (first, other) for sweep in (0, 1)}) == 4
    assert parts_read(again, 1) == parts_read(first, 1)
    order = RowOrder(0, (3,) * 20, 0, 1, 12)
    shuffles = [tuple(order.shuffled(Position(sweep, window), 12)) for sweep in (0, 1) for window in (0, 1)]
    assert len(set(shuffles)) == 4
    assert all(sorted(shuffle) == list(range(12)) for shuffle in shuffles)


@unhurried
@given(PARTS, st.integers(1, 30), st.integers(0, 60))
def test_a_run_that_begins_anywhere_reads_what_the_whole_run_reads_from_there(
    part_rows: tuple[int, ...], window_rows: int, skipped: int
) -> None:
    order = RowOrder(0, (*part_rows, 1), 0, 1, window_rows)

    def rows_from(begin: Position) -> list[tuple[int, int, int, int]]:
        rows: list[tuple[int, int, int, int]] = []
        for position in order.following(begin):
            count = sum(order.piece_rows[part] for part in order.windows(position.sweep)[position.window])
            for row, number in enumerate(order.shuffled(position, count).tolist(), start=position.row):
                rows.append((position.sweep, position.window, row, number))
            if len(rows) > 100:
                break
        return rows

    whole = rows_from(Position())
    sweep, window, row, _ = whole[skipped]
    assert rows_from(Position(sweep, window, row))[:30] == whole[skipped:][:30]


@pytest.fixture
def rows(tmp_path: Path) -> TrainingRows:
    """Sixty rows, in columns with names of their own."""
    features = {"kind": {"names": list(LABELS), "_type": "ClassLabel"}}
    schema = pa.schema([pa.field("img", pa.binary()), pa.field("kind", pa.int64())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    table = pa.table({"img": [picture(n) for n in range(60)], "kind": [n % 3 for n in range(60)]}, schema)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=25)
    columns = ColumnsConfig(image="img", label="kind")
    source = SourceConfig("parquet", str(tmp_path / "rows.parquet"), columns=columns)
    return TrainingRows.of(source, ImagesConfig(), 2)


def batches_of(rows: TrainingRows, config: PretrainConfig, workers: int = 1, rank: int = 0) -> RowBatches:
    order = RowOrder(0, rows.piece_rows, rank, workers, config.shuffle_rows)
    return RowBatches(rows, order, Augmentation(config, rows.images, 16), config.batch_rows, 1)


def test_two_workers_decode_every_row_of_a_labels_column_once(rows: TrainingRows) -> None:
    assert rows.labels == LABELS and rows.count == 60
    seen: set[tuple[bytes, int]] = set()
    for rank in (0, 1):
        batches = batches_of(rows, PretrainConfig(batch_rows=7, shuffle_rows=16), 2, rank)
        for window in range(len(batches.order.windows(0))):
            for block in decoded_window(batches, Position(0, window)):
                pairs = zip(block["image"], block["label"].tolist(), strict=True)
                seen |= {(image.tobytes(), label) for image, label in pairs}
    assert seen == {(decode_image(picture(n), 16).tobytes(), n % 3) for n in range(60)}


def test_an_augmented_image_follows_from_its_seed_and_shows_the_picture() -> None:
    buffer = io.BytesIO()
    # The left half is red, the right one blue.
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 200
    Image.fromarray(pixels).save(buffer, format="PNG")
    data = buffer.getvalue()
    flips = Augmentation(PretrainConfig(flip=True), ImagesConfig(), 16)
    seen = {flips.decoded(data, seed).tobytes() for seed in range(20)}
    plain = decode_image(data, 16)
    assert seen == {plain.tobytes(), plain[:, :, ::-1].tobytes()}
    crops = Augmentation(PretrainConfig(crop_scale=0.3, rand_augment=9), ImagesConfig(), 16)
    again = [crops.decoded(data, seed) for seed in (1, 2, 1)]
    assert again[0].shape == (3, 16, 16) and again[0].dtype == np.uint8
    assert np.array_equal(again[0], again[2]) and not np.array_equal(again[0], again[1])
    cut = Augmentation(PretrainConfig(crop_scale=0.01), ImagesConfig(), 16)
    # Some parts are nearly all red, others nearly all blue.
    shares = [float((cut.decoded(data, seed)[0] > 100).mean()) for seed in range(20)]
    assert min(shares) < 0.3 and max(shares) > 0.7
    # Without augmentation an image is what the store makes of it.
    assert np.array_equal(Augmentation(PretrainConfig(), ImagesConfig(), 16).decoded(data, 3), plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": (3, 2)}, r"workers is \(3, 2\)"),
        ({"mixup": 0.8, "batch_rows": 5}, "batch_rows is 5"),
        ({"crop_scale": 0}, "crop_scale"),
        ({"label_smoothing": 1}, "label_smoothing"),
    ],
)
def test_bad_options_are_refused_with_their_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(PretrainConfig, options, "pretrain")


def test_the_workers_are_a_number_or_a_pair() -> None:
    assert (PretrainConfig(workers=3).min_workers, PretrainConfig(workers=3).max_workers) == (3, 3)
    assert (PretrainConfig(workers=(1, 4)).min_workers, PretrainConfig(workers=(1, 4)).max_workers) == (1, 4)
