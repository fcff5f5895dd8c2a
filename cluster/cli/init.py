"""``lmeraser init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import AsJson
from cluster.cli.output import emit, print_pairs, warn
from lmeraser.errors import ConfigError
from lmeraser.store.location import local_path


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Label folders of images, or files with rows; or parts of them.")],
    public: Annotated[
        Path | None, typer.Option(help="Images that nobody will ask to delete.  [default: FOLDER/public]")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Weights of the backbone: `pretrained`, `trained` on the public images, or a file.")
    ] = "pretrained",
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("site.yaml"),
    as_json: AsJson = False,
) -> None:
    """Write a configuration for the images in a folder, and say what was chosen.

    FOLDER holds one folder of images for each label, Parquet files, tar shards, or what `save_to_disk` of `datasets`
    has written; or it is a CSV or JSON Lines file that names images. It may hold them in parts: `private` or `train`,
    `test`, and `public`.

    Example: lmeraser init /data/signs --public /data/photos
    """
    import torch

    from cluster.first_configuration import Devices, choose, configuration_text
    from lmeraser.config import load_config
    from lmeraser.data.survey import survey, with_public

    out = local_path(out)
    if out.exists():
        raise ConfigError(f"{out} exists: remove it, or name another file with --out")
    found = survey(local_path(folder))
    if public is not None:
        found = with_public(found, local_path(public))
    gpus = torch.cuda.device_count()
    devices = Devices(gpus, torch.cuda.get_device_name(0) if gpus else "")
    if weights not in ("pretrained", "trained"):
        weights = str(local_path(weights))
        if not Path(weights).is_file():
            raise ConfigError(f"there is no file {weights}; --weights takes pretrained, trained or a file")
    chosen = choose(found, devices)
    store = out.with_name(f"{out.stem}-store")
    try:
        out.write_text(configuration_text(found, chosen, devices, store, weights), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}") from error
    load_config(out)
    if not chosen.own_public:
        warn(
            "no public images were given, so printed glyphs take their place: the answers are as exact, and less "
            "accurate. Name a folder of images like yours, which nobody will ask to delete, with --public"
        )
    pairs = {
        "configuration": str(out),
        "private_rows": found.rows,
        "labels": len(found.labels),
        "subjects": found.subjects,
        "left_out": found.left_out,
        "test_rows": found.test.path if found.test is not None else None,
        "public_rows": chosen.public_rows,
        "image_px": chosen.image_px,
        "device": chosen.device,
        "anchors": chosen.anchors,
        "max_cluster_rows": chosen.max_cluster_rows,
        "next": f"lmeraser demo --config {out}",
    }
    emit(pairs, as_json, lambda: print_pairs((name.replace("_", " "), value) for name, value in pairs.items()))
