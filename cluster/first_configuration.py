"""The first configuration of a store, from what a folder of images holds and what this machine has."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lmeraser.config import ColumnsConfig, PartitionConfig, SourceConfig
from lmeraser.data import open_source
from lmeraser.data.survey import Survey
from lmeraser.errors import ConfigError

# A quarter of the published side takes a fifth of the time on a processor, and suits images that are small anyway.
_GPU_PX, _CPU_PX, _SMALL_CPU_PX = 224, 160, 96
# So many public rows for each anchor, where there are few.
_ROWS_PER_ANCHOR = 4
_LEAST_CLUSTER_ROWS = 2000
_NO_PUBLIC_PROMPT = (
    "prompt: {kind: token, tokens: 16, public_epochs: 0}   # glyphs are no rows to tune a public prompt on"
)


@dataclass(frozen=True)
class Devices:
    """What may compute on this machine."""

    gpus: int
    gpu_name: str = ""


@dataclass(frozen=True)
class Choices:
    """What was chosen.

    Attributes:
        image_px: side of the images.
        device: "cuda" or "cpu".
        anchors: as many as the public rows allow.
        max_cluster_rows: about a cluster for each device.
        public: the public rows.
        public_rows: how many.
        own_public: whether they are the user's, not the bundled glyphs.
    """

    image_px: int
    device: str
    anchors: int
    max_cluster_rows: int
    public: SourceConfig
    public_rows: int
    own_public: bool


def choose(found: Survey, devices: Devices) -> Choices:
    """Choose what depends on rows and devices.

    Raises:
        ConfigError: when there are fewer than two public rows, which have to give the anchors.
        DataError: when the public rows cannot be read.
    """
    defaults = PartitionConfig()
    public = found.public or SourceConfig(kind="glyphs")
    public_rows = open_source(public).count()
    anchors = min(defaults.anchors, public_rows // _ROWS_PER_ANCHOR)
    if anchors < 2:
        raise ConfigError(
            f"{public.path} holds {public_rows} public images; at least {2 * _ROWS_PER_ANCHOR} are needed"
        )
    on_gpu = devices.gpus > 0
    cluster_rows = defaults.max_cluster_rows
    if devices.gpus > 1:
        cluster_rows = min(cluster_rows, max(_LEAST_CLUSTER_ROWS, -(-found.rows // devices.gpus)))
    cpu_px = _SMALL_CPU_PX if found.side_px <= _SMALL_CPU_PX else _CPU_PX
    return Choices(
        image_px=_GPU_PX if on_gpu else cpu_px,
        device="cuda" if on_gpu else "cpu",
        anchors=anchors,
        max_cluster_rows=cluster_rows,
        public=public,
        public_rows=public_rows,
        own_public=found.public is not None,
    )


def configuration_text(found: Survey, chosen: Choices, devices: Devices, store: Path, weights: str) -> str:
    """The configuration as YAML, with a comment wherever a user may want another value."""
    device = f"{devices.gpus} × {devices.gpu_name}" if devices.gpus else "no GPU was found"
    fetched = "   # timm's, fetched by the first ingest; or a .safetensors file" if weights == "pretrained" else ""
    names = ", ".join(map(_quoted, found.labels[:8])) + (", …" if len(found.labels) > 8 else "")
    public = "" if chosen.own_public else ", here printed glyphs that come with the package"
    lines = [
        "# Written by `lmeraser init`; every field is described in lmeraser/config/README.md.",
        "# `lmeraser demo --config FILE` tries it on some of the rows, in a folder of its own.",
        "# `lmeraser rebuild` gives a store that was made with it another configuration.",
        f"store: {_quoted(str(store))}",
        *([] if found.declared else [f"labels: {_quoted(list(found.labels))}"]),
        "backbone:",
        "  name: deit_tiny_patch16_224   # any Vision Transformer of timm; larger ones are more accurate and slower",
        f"  weights: {_quoted(weights)}{fetched}",
        f"  image_px: {chosen.image_px}   # a multiple of 16; 224 is most accurate. The images' sides: {found.side_px}",
        f"  device: {chosen.device}   # {device}",
        "partition:",
        f"  anchors: {chosen.anchors}   # at most as many as there are public rows",
        f"  max_cluster_rows: {chosen.max_cluster_rows}   # about a cluster for each device",
        "prompt: {kind: token, tokens: 16}" if chosen.own_public else _NO_PUBLIC_PROMPT,
        "tuning: {coreset_rows: 300, epochs: 4}   # 600 rows are more accurate, and then fewer deletions are free",
        "",
        f"# {chosen.public_rows} images that nobody will ask to delete{public}.",
        "# They give the anchors: the more they resemble the private rows, the better. One folder for each label.",
        f"public: {_source(chosen.public)}",
        f"# {found.rows} rows of {len(found.labels)} labels: {names}",
        f"private: {_source(found.private)}",
        "# For `lmeraser predict --test`.",
        f"test: {_source(found.test)}" if found.test is not None else "# test: {kind: image_folder, path: FOLDER}",
    ]
    return "\n".join(lines) + "\n"


def _source(source: SourceConfig) -> str:
    parts = [f"kind: {source.kind}"]
    parts += [f"{name}: {_quoted(value)}" for name in ("path", "split") if (value := getattr(source, name))]
    defaults = vars(ColumnsConfig())
    columns = [f"{holds}: {_quoted(name)}" for holds, name in vars(source.columns).items() if name != defaults[holds]]
    if columns:
        parts.append(f"columns: {{{', '.join(columns)}}}")
    return f"{{{', '.join(parts)}}}"


def _quoted(value: str | list[str]) -> str:
    """A value as YAML, in which ``${name}`` would be a placeholder."""
    return json.dumps(value, ensure_ascii=False).replace("$", "$$")
