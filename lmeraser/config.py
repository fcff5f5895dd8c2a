"""What a user may set.

Frozen dataclasses that pydantic validates at the edge (YAML, command line). What is under :class:`MethodConfig` decides
the state and is written into the store; data sources and serving options do not, and may change from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from lmeraser.errors import ConfigError
from lmeraser.hashing import canonical_json
from lmeraser.ids import comparable
from lmeraser.images_config import ImagesConfig
from lmeraser.owners_config import OwnersConfig
from lmeraser.placeholders import read_yaml
from lmeraser.pretrain_config import PretrainConfig
from lmeraser.serving_config import ServingConfig
from lmeraser.validated import validated

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class BackboneConfig:
    """The frozen vision model.

    Attributes:
        name: a timm model name. Token prompts need a Vision Transformer; a pad prompt takes any model.
        weights: "pretrained" (timm's own, by name), "trained" (by ``lmeraser pretrain``), or a file
            (.safetensors, or a plain state dict readable with ``torch.load(weights_only=True)``).
        image_px: side of the square that images are resized to; position embeddings are resampled.
        model_args: further arguments of the timm model, such as embed_dim or depth.
        device: where rows go through the backbone; part of the store's fingerprint.
    """

    name: str = "deit_tiny_patch16_224"
    weights: str = "pretrained"
    image_px: int = Field(default=224, ge=16, le=1024)
    model_args: dict[str, int] = field(default_factory=dict)
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True, config=_STRICT)
class PartitionConfig:
    """Anchors, dendrogram and cut (design 4.2).

    Attributes:
        anchors: how many centroids of public routing features.
        routing_block: block whose patch tokens route an image; -1 is the last.
        routing_pool: "patch" for the mean patch token, "class" for the class token.
        max_cluster_rows: a node of the dendrogram is split while it holds more rows than this.
        min_tuned_rows: a cluster with fewer rows gets no specialist.
    """

    anchors: int = Field(default=1024, ge=2, le=65536)
    routing_block: int = Field(default=-1, ge=-1)
    routing_pool: Literal["patch", "class"] = "patch"
    max_cluster_rows: int = Field(default=600, ge=1)
    min_tuned_rows: int = Field(default=16, ge=1)


@dataclass(frozen=True, config=_STRICT)
class PromptConfig:
    """The prompt of a cluster (design 4.3).

    Attributes:
        kind: "pad" is an additive frame of pixels (LMEraser, section 4); "token" is learned tokens
            after the class token (VPT, arXiv 2203.12119, section 3.2).
        pad_px: width of the frame; only for "pad".
        tokens: how many learned tokens; only for "token".
        depth: block at which tokens enter; 0 is the input of the first block. Only for "token".
        meta_passes: sweeps over public rows in which the meta-prompt is tuned; every row passes the backbone with it
            where no specialist's prompt does. 0 for none.
        meta_rows: how many public rows it is tuned on, drawn by a hash of the sample id; all when there are fewer.
    """

    kind: Literal["pad", "token"] = "token"
    pad_px: int = Field(default=8, ge=1)
    tokens: int = Field(default=16, ge=1, le=512)
    depth: int = Field(default=0, ge=0)
    meta_passes: int = Field(default=3, ge=0)
    meta_rows: int = Field(default=5000, ge=1)

    @model_validator(mode="after")
    def _depth_is_for_tokens(self) -> Self:
        if self.kind == "pad" and self.depth != 0:
            raise ValueError(f"prompt.depth is {self.depth}, but a pad prompt enters at the pixels: only 0 is allowed")
        return self


@dataclass(frozen=True, config=_STRICT)
class TuningConfig:
    """The deterministic program that tunes one cluster's prompt.

    Attributes:
        passes: sweeps over the cluster's rows.
        batch_rows: rows in one step.
        learning_rate: peak rate of the prompt; it falls to zero on a half cosine.
        head_learning_rate: peak rate of the linear head that is tuned beside a meta-prompt and thrown away.
        weight_decay: decoupled weight decay of the prompt and that linear head.
        shift_px: augmentation: images are shifted by up to this many pixels each way.
        flip: augmentation: half of the images are mirrored.
    """

    passes: int = Field(default=4, ge=1)
    batch_rows: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    head_learning_rate: float = Field(default=0.01, gt=0)
    weight_decay: float = Field(default=0.0001, ge=0)
    shift_px: int = Field(default=0, ge=0)
    flip: bool = False


@dataclass(frozen=True, config=_STRICT)
class HeadsConfig:
    """The closed-form heads (design 4.4).

    Attributes:
        head_dim: features that enter the heads, after the public projection.
        cells: after a quarter of a Vision Transformer's blocks, patch tokens are averaged in so many times so many
            cells of the image, too (at most one a patch); 1 for none.
    """

    head_dim: int = Field(default=1024, ge=8, le=4096)
    cells: int = Field(default=3, ge=1, le=16)


@dataclass(frozen=True, config=_STRICT)
class MethodConfig:
    """All that decides the state, besides the rows and the public artifacts."""

    labels: tuple[str, ...]
    seed: int = 0
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError(f"labels lists {len(self.labels)} name(s); at least 2 are needed")
        repeated = sorted({name for name in self.labels if self.labels.count(name) > 1})
        if repeated:
            raise ValueError(f"labels repeats {', '.join(repeated)}")
        # What cannot be seen tells no labels apart.
        seen: dict[str, str] = {}
        for name in self.labels:
            visible = comparable(name.strip().strip("\u200b\ufeff").strip())
            if not visible:
                raise ValueError(f"labels holds the empty name {name!r}; every label needs a name")
            if visible in seen:
                raise ValueError(f"labels holds {seen[visible]!r} and {name!r}, which look the same: keep one of them")
            seen[visible] = name
        return self

    @model_validator(mode="after")
    def _augmentation_needs_the_input(self) -> Self:
        if self.prompt.depth > 0 and (self.tuning.shift_px or self.tuning.flip):
            raise ValueError(
                "tuning.shift_px and tuning.flip change the pixels, but with prompt.depth "
                f"{self.prompt.depth} the blocks below run once per row: set shift_px 0 and flip false, or depth 0"
            )
        return self

    def canonical(self) -> bytes:
        """The bytes that stand for this configuration in the state root."""
        return canonical_json(asdict(self))


_KINDS_WITH = {
    "path": ("parquet", "image_folder", "torchvision"),
    "dataset": ("torchvision",),
    "split": ("parquet", "torchvision", "digits"),
}


@dataclass(frozen=True, config=_STRICT)
class SourceConfig:
    """Where rows come from.

    Attributes:
        kind: "parquet" (Hugging Face layout), "image_folder", "torchvision", and the bundled "digits" and "glyphs".
        path: file or folder, for "torchvision" that which holds the data set, for "parquet" also ``s3://bucket/path``.
        dataset: class in ``torchvision.datasets``; only for "torchvision".
        split: "train" or "test" of "digits" and of most of "torchvision"; of "parquet", files whose names tell of it,
            as on the Hugging Face Hub.
        max_rows: take this many rows, chosen by a hash of the sample id; all when absent.
    """

    kind: Literal["parquet", "image_folder", "torchvision", "digits", "glyphs"]
    path: str = ""
    dataset: str = ""
    split: str = ""
    max_rows: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if self.kind in ("parquet", "image_folder", "torchvision") and not self.path:
            raise ValueError(f"a source of kind {self.kind} needs path")
        if self.kind == "torchvision" and not self.dataset:
            raise ValueError("a source of kind torchvision needs dataset, a class of torchvision.datasets")
        for name, kinds in _KINDS_WITH.items():
            if getattr(self, name) and self.kind not in kinds:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but a source of kind {self.kind} has no {name}")
        if self.kind == "digits" and self.split not in ("", "train", "test"):
            raise ValueError(f"split is {self.split!r}; digits have train and test")
        return self

    @model_validator(mode="after")
    def _path_is_of_a_kind_that_is_read(self) -> Self:
        scheme, separator, rest = self.path.partition("://")
        if separator and scheme not in ("file", "s3"):
            other = f": write s3://{rest}" if scheme in ("s3a", "s3n") else ": download it, and name the folder"
            raise ValueError(
                f"path is {self.path!r}; a local path and file:// are read, and s3:// by kind parquet{other}"
            )
        return self


@dataclass(frozen=True, config=_STRICT)
class Config:
    """One configuration file.

    Attributes:
        store: folder, or ``s3://bucket/prefix``; ``--store`` goes before it.
        lease_s: seconds for which a replica may answer after it asked the store whether anything newer was erased;
            every erasure waits as long. Written into the store when it is made, and kept; when absent, 0.4 in a folder
            and 2 in a bucket.
        s3_endpoint: URL of an S3 provider other than AWS, for the store and the rows; ``--s3-endpoint`` goes before it.
        labels: names of the labels, for good; those that the private source declares when empty.
        backbone_digest: the SHA-256 digest that the backbone's weights must have, or at least its first 16 hexadecimal
            digits; checked before a store is made and whenever it is opened to add rows. ``lmeraser status`` shows it.
            Pins what ``weights: pretrained`` fetches; not checked when empty.
        public, private: where public and private rows come from.
        test: rows that ``lmeraser predict --test`` predicts.
        images: which images are taken, as rows and for predictions.
    """

    store: str = ""
    lease_s: float | None = Field(default=None, ge=0.1, le=60)
    s3_endpoint: str = ""
    seed: int = 0
    labels: tuple[str, ...] = ()
    backbone_digest: str = Field(default="", pattern="^([0-9a-f]{16,64})?$")
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    public: SourceConfig = field(default_factory=lambda: SourceConfig(kind="glyphs"))
    private: SourceConfig = field(default_factory=lambda: SourceConfig(kind="digits"))
    test: SourceConfig | None = None
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    owners: OwnersConfig = field(default_factory=OwnersConfig)

    @model_validator(mode="after")
    def _images_are_set_once(self) -> Self:
        if self.serving.images not in (ImagesConfig(), self.images):
            raise ValueError("serving.images is set: write images beside serving, for it holds for rows as well")
        object.__setattr__(self, "serving", replace(self.serving, images=self.images))
        return self

    def method(self, labels: tuple[str, ...]) -> MethodConfig:
        """The part that decides the state, over the label names that the data declares.

        Raises:
            ConfigError: when the parts do not go together.
        """
        return validated(
            MethodConfig,
            {
                "labels": tuple(map(comparable, self.labels or labels)),
                "seed": self.seed,
                "backbone": self.backbone,
                "partition": self.partition,
                "prompt": self.prompt,
                "tuning": self.tuning,
                "heads": self.heads,
            },
            "configuration",
        )


def load_config(path: Path, variables: Mapping[str, str] | None = None) -> Config:
    """Read a YAML file; ``${name}`` in its strings is replaced from ``variables``, and ``$$`` is a ``$``.

    Raises:
        ConfigError: when the file cannot be read, a variable is missing, a key is unknown, or a
            value is outside its range. The message names the key and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {getattr(error, 'strerror', error)}") from error
    return validated(Config, read_yaml(text, variables or {}, str(path)), str(path))


def method_from_json(value: Any) -> MethodConfig:
    """The method's configuration as a store holds it.

    Raises:
        ConfigError: when the value is not one.
    """
    return validated(MethodConfig, value, "store.json")
