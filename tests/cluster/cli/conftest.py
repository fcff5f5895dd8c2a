"""A folder to ingest from, and a store with deletions to read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from deletion_case import Case
from safetensors.torch import save_file
from small_system import System
from workplace import BROKEN, VIT, Workplace, end_actors_of, numbered, put_images

from lmeraser.deletion import DeletionRequest
from lmeraser.learning.backbone import create_model
from lmeraser.state.keys import init_keys
from lmeraser.store import LocalStore


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    made = Workplace(tmp_path_factory.mktemp("workplace"))
    put_images(made.folder / "public", **numbered(range(1000, 1012)))
    torch.manual_seed(0)
    save_file(create_model(VIT).state_dict(), made.folder / "weights.safetensors")
    init_keys(made.folder / "keys")
    yield made
    end_actors_of(made.store)


@pytest.fixture(scope="module")
def first_source(workplace: Workplace) -> dict[str, Any]:
    """Six rows, one more whose image is cut short, and files that are no rows."""
    source = put_images(workplace.folder / "private", **numbered(range(6)), red_broken=BROKEN)
    (workplace.folder / "private" / "red" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (workplace.folder / "private" / ".ipynb_checkpoints").mkdir()
    return source


@pytest.fixture(scope="session")
def case(built: Callable[[str, int], System], tmp_path_factory: pytest.TempPathFactory) -> Case:
    original = built("token", 90)
    folder = tmp_path_factory.mktemp("case") / "store"
    shutil.copytree(original.store.uri, folder)
    system = replace(original, store=LocalStore(folder))
    coordinator = system.coordinator()
    completed = coordinator.delete(DeletionRequest(("s3",), ("u40",))).id
    while not coordinator.idle():
        coordinator.step()
    return Case(system, completed, coordinator.delete(DeletionRequest(("s5",))).id)
