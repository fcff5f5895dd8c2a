"""Ingests into a store that has rows: which rows are added, and with which settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import Run
from small_system import picture
from workplace import Workplace, contents, folder_source, put_images, stock

from lmeraser.state.keys import init_keys

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def test_rows_that_were_erased_are_left_out_and_counted(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, workplace, first_source)
    source = put_images(tmp_path / "again", blue_11=picture(11))
    assert lmeraser(*workplace.ingest(private=source)).code == 0
    rows = workplace.rows()
    delete = (
        "delete",
        "--store",
        workplace.store.uri,
        "--keys",
        workplace.folder / "keys",
        "--sample-id",
        "blue/blue_11.png",
    )
    done = lmeraser(*delete, "--json")
    assert (done.code, done.json["status"], done.json["rows"]) == (0, "completed", 1)
    again = lmeraser(*workplace.ingest("--json", private=source))
    assert again.code == 0, again.err
    assert [again.json[name] for name in ("added", "present", "erased")] == [0, 0, 1]
    assert workplace.rows() == rows - 1
    forced = lmeraser(*workplace.ingest("--json", "--force", private=source))
    assert [forced.json[name] for name in ("added", "present", "erased")] == [1, 0, 0]


def test_a_store_is_not_used_with_what_it_was_not_made_with(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, workplace, first_source)
    init_keys(tmp_path / "other")
    before = contents(workplace.store)
    lmeraser(*workplace.ingest(private=first_source, seed=5)).failed(2, "seed is 0 there and 5 here")
    delete = ("delete", "--store", workplace.store.uri, "--sample-id", "red/red_0.png")
    lmeraser(*delete, "--keys", tmp_path / "none").failed(1, str(tmp_path / "none"), "lmeraser keys init")
    lmeraser(*delete, "--keys", tmp_path / "other").failed(1, "hash key")
    lmeraser(*delete, "--keys", workplace.folder / "keys", "--deadline", "soon").failed(2, "soon")
    assert contents(workplace.store) == before


def test_a_relative_path_is_below_the_users_folder(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(lmeraser, workplace, first_source)
    rows = workplace.rows()
    put_images(tmp_path / "more", green_13=picture(13))
    monkeypatch.chdir(tmp_path)
    done = lmeraser(*workplace.ingest("--json", private=folder_source(Path("more"))))
    assert done.code == 0, done.err
    assert workplace.rows() == rows + 1


def test_rows_without_ids_keep_their_names_when_others_go_at_the_source(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, workplace, first_source)
    rows = workplace.rows()
    path = tmp_path / "rows.parquet"
    source = {"kind": "parquet", "path": str(path)}
    columns: dict[str, list[Any]] = {"label": [0, 1, 2], "image": [picture(number) for number in (20, 21, 22)]}
    pq.write_table(pa.table(columns), path)
    done = lmeraser(*workplace.ingest("--json", private=source))
    assert done.code == 0, done.err
    assert (done.json["named_by_content"], workplace.rows()) == (3, rows + 3)
    assert "warning: 3 rows have no sample_id" in done.err
    # With the first row gone, the others are still the rows that the store has: nothing is added, and nothing refused.
    pq.write_table(pa.table({name: values[1:] for name, values in columns.items()}), path)
    done = lmeraser(*workplace.ingest("--json", private=source))
    assert done.code == 0, done.err
    assert (done.json["added"], done.json["present"], workplace.rows()) == (0, 2, rows + 3)


def test_a_later_batch_may_lack_labels_where_they_are_listed(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, workplace, first_source)
    batch = put_images(tmp_path / "batch", red_30=picture(30), green_31=picture(31))
    lmeraser(*workplace.ingest(private=batch, labels=[])).failed(
        2, "labels is", 'as `labels: ["red", "green", "blue"]`'
    )
    columns = {"image": [picture(1)], "label": ["red"]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    unnamed = {"kind": "parquet", "path": str(tmp_path / "rows.parquet")}
    lmeraser(*workplace.ingest(private=unnamed, labels=[])).failed(1, "list them under `labels:`", "'red'")
