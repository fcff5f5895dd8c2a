"""Rows that cannot be ingested are named, and leave the store as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import Run
from small_system import picture
from workplace import BROKEN, LEFT_OUT, Workplace, contents, folder_source, put_images, stock

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def test_undecodable_images_are_named_or_left_out(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any]
) -> None:
    lmeraser(*workplace.ingest(private=first_source)).failed(1, "1 image(s)", "'red/red_broken.png'", "--skip-bad")
    assert workplace.commits() == []
    assert [name for name in workplace.store.names() if name.startswith(("rows/", "incoming/", "heads/"))] == []
    done = lmeraser(*workplace.ingest("--skip-bad", "--json", private=first_source))
    assert done.code == 0, done.err
    assert (done.json["left_out"], done.json["named_by_content"]) == ({".heic": 1, "hidden": 1}, 0)
    assert (done.json["added"], done.json["skipped"]) == (6, LEFT_OUT)
    assert workplace.rows() == 6
    assert workplace.store.names("incoming/") == []


def bad_source(kind: str, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    match kind:
        case "label":
            return put_images(folder, red_8=picture(8), violet_9=picture(9))
        case "no images":
            (folder / "red").mkdir()
            (folder / "red" / "IMG_1.HEIC").touch()
            return folder_source(folder)
        case "no folders":
            return folder_source(folder)
        case "cut short":
            return put_images(folder, red_8=picture(8), red_9=BROKEN, blue_10=b"")
        case "in the store":
            return put_images(folder, red_0=picture(3), green_10=picture(10))
        case "text":
            (folder / "rows.parquet").write_text("text")
        case _:
            columns: dict[str, list[Any]] = {
                "sample_id": ["a", "twin", "twin"],
                "label": [0, 1, 2],
                "image": [picture(n) for n in range(3)],
            }
            if kind == "no label":
                columns["label"] = [0, 1, 3]
                columns["sample_id"] = ["a", "b", "odd"]
            elif kind == "paths":
                columns["image"] = ["a.png", "b.png", "c.png"]
            elif kind == "floats":
                columns["subject_id"] = [100.0, None, 101.0]
            elif kind == "no column":
                del columns["label"]
            elif kind == "no rows":
                columns = {name: values[:0] for name, values in columns.items()}
            pq.write_table(pa.table(columns), folder / "rows.parquet")
    return {"kind": "parquet", "path": str(folder / "rows.parquet")}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("label", ("'violet/violet_9.png'", "'violet'", "'red', 'green', 'blue'")),
        ("no label", ("'odd'", "label 3", "0 to 2")),
        ("no images", ("holds no rows", "files that were left out: 1 .heic")),
        ("no folders", ("no subfolder",)),
        ("no rows", ("holds no rows",)),
        ("no column", ("rows.parquet lacks the column label",)),
        ("text", ("cannot read", "rows.parquet")),
        ("twins", ("'twin'", "more than once")),
        ("cut short", ("2 image(s)", "'red/red_9.png': the image cannot", "'blue/blue_10.png': the image", "no bytes")),
        ("paths", ("the column image holds text", "paths")),
        ("floats", ("the column subject_id holds double", "text or whole numbers")),
        ("in the store", ("'red/red_0.png'", "already")),
    ],
)
def test_bad_rows_are_named_and_change_nothing(
    lmeraser: Run,
    workplace: Workplace,
    first_source: dict[str, Any],
    tmp_path: Path,
    kind: str,
    message: tuple[str, ...],
) -> None:
    stock(lmeraser, workplace, first_source)
    before = contents(workplace.store)
    lmeraser(*workplace.ingest(private=bad_source(kind, tmp_path / "bad"))).failed(1, *message)
    assert contents(workplace.store) == before


def test_limits_of_images_hold_for_rows(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, workplace, first_source)
    source = put_images(tmp_path / "large", red_40=picture(40))
    for limit, message in (
        ({"max_pixels": 9}, "allowed are 9 in all"),
        ({"max_bytes": 9}, "allowed are 9 (images.max_bytes)"),
    ):
        lmeraser(*workplace.ingest(private=source, images=limit)).failed(1, "'red/red_40.png': the image has", message)
    only_jpeg = workplace.ingest(private=source, images={"formats": ["JPEG"]})
    lmeraser(*only_jpeg).failed(1, "holds no rows", "files that were left out: 1 .png")
