"""Small tables of rows that no image gave: drawn ones for property tests, and fixed ones.

Legend: N rows, H head features.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lmeraser.state.rows import RowTable

WIDTH = 5

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

Row = tuple[str, str | None, int, bytes, int, tuple[int, ...]]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.none() | TEXTS,
        st.integers(0, 9),
        st.binary(max_size=12),
        st.integers(0, 2**31 - 1),
        st.tuples(*[st.integers(-(2**15), 2**15 - 1)] * WIDTH),
    ),
    max_size=8,
    unique_by=lambda row: row[0],
)


def table(rows: list[Row]) -> RowTable:
    ids, subjects, labels, images, anchors, features = zip(*rows, strict=True) if rows else ((),) * 6
    return RowTable(
        sample_ids=tuple(ids),
        subject_ids=tuple(subjects),
        labels_N=np.array(labels, np.int64),
        images=tuple(images),
        anchors_N=np.array(anchors, np.int32),
        features_NH=np.array(features, np.int16).reshape(-1, WIDTH),
    )


def some_rows(number: int = 7) -> list[Row]:
    return [
        (f"s{place}", f"p{place // 2}", place % 3, bytes([place]) * place, place * 11, tuple(range(place, place + 5)))
        for place in range(number)
    ]
