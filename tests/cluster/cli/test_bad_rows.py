"""Rows that cannot be ingested are named, and leave the store as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from command_line import Run
from named_actors import end_actors
from safetensors.torch import save_file
from small_system import LABELS, picture

from lmeraser.config import BackboneConfig
from lmeraser.learning.backbone import create_model
from lmeraser.state.keys import init_keys
from lmeraser.store import LocalStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
VIT = BackboneConfig("vit_tiny_patch16_224", "trained", 32, {"embed_dim": 32, "depth": 2, "num_heads": 2})
BROKEN = picture(7)[:60]


class Workplace(NamedTuple):
    """Keys, weights and public images in one folder, and a store next to them."""

    folder: Path

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    def ingest(self, *options: object, **parts: Any) -> tuple[object, ...]:
        """The command; ``parts`` replace those of the configuration."""
        settings: dict[str, Any] = {
            "labels": list(LABELS),
            "backbone": backbone(),
            "partition": {"anchors": 4, "min_tuned_rows": 1000},
            "heads": {"head_dim": 8},
            "public": folder_source(self.folder / "public"),
            **parts,
        }
        weights = str(self.folder / "weights.safetensors")
        settings["backbone"] = {"weights": weights, **settings["backbone"]}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings))
        places = ("--store", self.store.uri, "--keys", self.folder / "keys")
        return ("ingest", "--config", self.folder / "config.yaml", *places, *options)

    def commits(self) -> list[Any]:
        records = [json.loads(self.store.get(name)) for name in self.store.names("log/")]
        return [record["body"] for record in records if record["kind"] == "commit"]

    def rows(self) -> int:
        return sum(entry["rows"] for entry in self.commits()[-1]["clusters"])


def backbone(**changes: Any) -> dict[str, Any]:
    return {"name": VIT.name, "image_px": VIT.image_px, "model_args": dict(VIT.model_args), **changes}


def folder_source(path: Path) -> dict[str, Any]:
    return {"kind": "image_folder", "path": str(path)}


def put_images(folder: Path, **images: bytes) -> dict[str, Any]:
    """A source of images whose names begin with their labels."""
    for name, data in images.items():
        file = folder / name.partition("_")[0] / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder_source(folder)


def numbered(numbers: range) -> dict[str, bytes]:
    return {f"{LABELS[number % 3]}_{number}": picture(number) for number in numbers}


def end_actors_of(store: LocalStore) -> None:
    if store.exists("store.json"):
        end_actors(json.loads(store.get("store.json"))["store_id"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    made = Workplace(tmp_path_factory.mktemp("workplace"))
    put_images(made.folder / "public", **numbered(range(1000, 1012)))
    torch.manual_seed(0)
    save_file(create_model(VIT).state_dict(), made.folder / "weights.safetensors")
    init_keys(made.folder / "keys")
    yield made
    end_actors_of(made.store)


@pytest.fixture(scope="module")
def first(place: Workplace) -> dict[str, Any]:
    """Six rows, one more whose image is cut short, and files that are no rows."""
    source = put_images(place.folder / "private", **numbered(range(6)), red_broken=BROKEN)
    (place.folder / "private" / "red" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (place.folder / "private" / ".ipynb_checkpoints").mkdir()
    return source


@pytest.mark.parametrize(
    ("parts", "code", "message"),
    [
        ({"backbone": backbone(name="vit_gigantic")}, 1, "'vit_gigantic' is not a timm model"),
        ({"backbone": backbone(weights="/no/file.safetensors")}, 1, "/no/file.safetensors"),
        ({"backbone": backbone(weights="trained")}, 1, "lmeraser pretrain"),
        ({"backbone": backbone(image_px=40)}, 1, "image_px 40"),
        ({"partition": {"anchors": 13}}, 1, "12 public rows for partition.anchors 13"),
        ({"public": folder_source(Path("/no/public"))}, 1, "/no/public"),
        ({"private": folder_source(Path("/no/private"))}, 1, "/no/private"),
        ({"labels": ["red", "red"]}, 2, "repeats red"),
        ({"tuning": {"learning_rate": float("inf")}}, 2, "tuning.learning_rate"),
    ],
    ids=["backbone", "weights", "untrained", "size", "anchors", "public", "private", "labels", "infinite"],
)
def test_a_first_ingest_that_cannot_begin_makes_no_store(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path, parts: Any, code: int, message: str
) -> None:
    nowhere = LocalStore(tmp_path / "store")
    lmeraser(*place.ingest("--store", nowhere.uri, **{"private": first, **parts})).failed(code, message)
    assert nowhere.names() == []


def test_without_keys_no_store_is_made(lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path) -> None:
    nowhere = LocalStore(tmp_path / "store")
    options = ("--store", nowhere.uri, "--keys", tmp_path / "none")
    lmeraser(*place.ingest(*options, private=first)).failed(1, str(tmp_path / "none"), "lmeraser keys init")
    assert nowhere.names() == []


def test_weights_in_another_layout_are_refused(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path
) -> None:
    torch.save({"model": create_model(VIT).state_dict(), "epoch": 3}, tmp_path / "nested.pth")
    changed = {"private": first, "backbone": backbone(weights=str(tmp_path / "nested.pth"))}
    lmeraser(*place.ingest("--store", tmp_path / "store", **changed)).failed(1, "nested.pth")


def test_an_undecodable_public_image_is_refused_or_left_out(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path
) -> None:
    public = put_images(tmp_path / "public", **numbered(range(1000, 1012)), red_broken=BROKEN)
    lmeraser(*place.ingest("--store", tmp_path / "store", private=first, public=public)).failed(1, "red_broken.png")
    ran = lmeraser(*place.ingest("--skip-bad", "--json", "--store", tmp_path / "store", private=first, public=public))
    end_actors_of(LocalStore(tmp_path / "store"))
    assert ran.code == 0, ran.err
    assert (ran.json["public_skipped"], ran.json["skipped"]) == 2 * (LEFT_OUT,)


def test_public_rows_without_label_names_are_refused(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path
) -> None:
    columns = {"label": [0, 1], "image": [picture(1000), picture(1001)]}
    pq.write_table(pa.table(columns), tmp_path / "public.parquet")
    public = {"kind": "parquet", "path": str(tmp_path / "public.parquet")}
    nowhere = LocalStore(tmp_path / "store")
    lmeraser(*place.ingest("--store", nowhere.uri, private=first, public=public)).failed(1, "ClassLabel")
    assert nowhere.names() == []


def test_undecodable_images_are_named_or_left_out(lmeraser: Run, place: Workplace, first: dict[str, Any]) -> None:
    lmeraser(*place.ingest(private=first)).failed(1, "1 image(s)", "'red/red_broken.png'", "--skip-bad")
    assert place.commits() == []
    assert [name for name in place.store.names() if name.startswith(("rows/", "incoming/", "heads/"))] == []
    done = lmeraser(*place.ingest("--skip-bad", "--json", private=first))
    assert done.code == 0, done.err
    assert (done.json["left_out"], done.json["named_by_content"]) == ({".heic": 1, "hidden": 1}, 0)
    assert (done.json["added"], done.json["skipped"]) == (6, LEFT_OUT)
    assert place.rows() == 6
    assert place.store.names("incoming/") == []


# What Pillow says of an image that is cut short.
LEFT_OUT = {"red/red_broken.png": "the image cannot be decoded: image file is truncated"}


def stock(lmeraser: Run, place: Workplace, first: dict[str, Any]) -> None:
    """Make the store, where no test before has."""
    if not place.commits():
        assert lmeraser(*place.ingest("--skip-bad", private=first)).code == 0


def contents(store: LocalStore) -> dict[str, bytes]:
    return {name: store.get(name) for name in store.names()}


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
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path, kind: str, message: tuple[str, ...]
) -> None:
    stock(lmeraser, place, first)
    before = contents(place.store)
    lmeraser(*place.ingest(private=bad_source(kind, tmp_path / "bad"))).failed(1, *message)
    assert contents(place.store) == before


def test_rows_that_were_erased_are_left_out_and_counted(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, place, first)
    source = put_images(tmp_path / "again", blue_11=picture(11))
    assert lmeraser(*place.ingest(private=source)).code == 0
    rows = place.rows()
    delete = ("delete", "--store", place.store.uri, "--keys", place.folder / "keys", "--sample-id", "blue/blue_11.png")
    done = lmeraser(*delete, "--json")
    assert (done.code, done.json["status"], done.json["rows"]) == (0, "completed", 1)
    again = lmeraser(*place.ingest("--json", private=source))
    assert again.code == 0, again.err
    assert [again.json[name] for name in ("added", "present", "erased")] == [0, 0, 1]
    assert place.rows() == rows - 1
    forced = lmeraser(*place.ingest("--json", "--force", private=source))
    assert [forced.json[name] for name in ("added", "present", "erased")] == [1, 0, 0]


def test_a_store_is_not_used_with_what_it_was_not_made_with(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, place, first)
    init_keys(tmp_path / "other")
    before = contents(place.store)
    lmeraser(*place.ingest(private=first, seed=5)).failed(2, "seed is 0 there and 5 here")
    delete = ("delete", "--store", place.store.uri, "--sample-id", "red/red_0.png")
    lmeraser(*delete, "--keys", tmp_path / "none").failed(1, str(tmp_path / "none"), "lmeraser keys init")
    lmeraser(*delete, "--keys", tmp_path / "other").failed(1, "hash key")
    lmeraser(*delete, "--keys", place.folder / "keys", "--deadline", "soon").failed(1, "soon")
    assert contents(place.store) == before


def test_a_relative_path_is_below_the_users_folder(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock(lmeraser, place, first)
    rows = place.rows()
    put_images(tmp_path / "more", green_13=picture(13))
    monkeypatch.chdir(tmp_path)
    done = lmeraser(*place.ingest("--json", private=folder_source(Path("more"))))
    assert done.code == 0, done.err
    assert place.rows() == rows + 1


def test_rows_without_ids_keep_their_names_when_others_go_at_the_source(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, place, first)
    rows = place.rows()
    path = tmp_path / "rows.parquet"
    source = {"kind": "parquet", "path": str(path)}
    columns: dict[str, list[Any]] = {"label": [0, 1, 2], "image": [picture(number) for number in (20, 21, 22)]}
    pq.write_table(pa.table(columns), path)
    done = lmeraser(*place.ingest("--json", private=source))
    assert done.code == 0, done.err
    assert (done.json["named_by_content"], place.rows()) == (3, rows + 3)
    assert "warning: 3 rows have no sample_id" in done.err
    # With the first row gone, the others are still the rows that the store has: nothing is added, and nothing refused.
    pq.write_table(pa.table({name: values[1:] for name, values in columns.items()}), path)
    done = lmeraser(*place.ingest("--json", private=source))
    assert done.code == 0, done.err
    assert (done.json["added"], done.json["present"], place.rows()) == (0, 2, rows + 3)


def test_a_later_batch_may_lack_labels_where_they_are_listed(
    lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path
) -> None:
    stock(lmeraser, place, first)
    batch = put_images(tmp_path / "batch", red_30=picture(30), green_31=picture(31))
    lmeraser(*place.ingest(private=batch, labels=[])).failed(2, "labels is", 'as `labels: ["red", "green", "blue"]`')
    columns = {"image": [picture(1)], "label": ["red"]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    unnamed = {"kind": "parquet", "path": str(tmp_path / "rows.parquet")}
    lmeraser(*place.ingest(private=unnamed, labels=[])).failed(1, "list them under `labels:`", "'red'")


def test_limits_of_images_hold_for_rows(lmeraser: Run, place: Workplace, first: dict[str, Any], tmp_path: Path) -> None:
    stock(lmeraser, place, first)
    source = put_images(tmp_path / "large", red_40=picture(40))
    for limit, message in (
        ({"max_pixels": 9}, "allowed are 9 in all"),
        ({"max_bytes": 9}, "allowed are 9 (images.max_bytes)"),
    ):
        lmeraser(*place.ingest(private=source, images=limit)).failed(1, "'red/red_40.png': the image has", message)
    only_jpeg = place.ingest(private=source, images={"formats": ["JPEG"]})
    lmeraser(*only_jpeg).failed(1, "holds no rows", "files that were left out: 1 .png")
