"""What an ingest by the command line needs: keys, weights, public images and rows in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from command_line import Run
from named_actors import end_actors
from small_system import LABELS, picture

from lmeraser.config import BackboneConfig
from lmeraser.store import LocalStore

VIT = BackboneConfig("vit_tiny_patch16_224", "trained", 32, {"embed_dim": 32, "depth": 2, "num_heads": 2})
BROKEN = picture(7)[:60]
# What Pillow says of an image that is cut short.
LEFT_OUT = {"red/red_broken.png": "the image cannot be decoded: image file is truncated"}


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


def stock(lmeraser: Run, workplace: Workplace, first_source: dict[str, Any]) -> None:
    """Make the store unless an earlier test made it."""
    if not workplace.commits():
        assert lmeraser(*workplace.ingest("--skip-bad", private=first_source)).code == 0


def contents(store: LocalStore) -> dict[str, bytes]:
    return {name: store.get(name) for name in store.names()}
