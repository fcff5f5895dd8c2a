"""The part of the configuration that determines the state. It is written into the store and enters the state root."""

from __future__ import annotations

from dataclasses import asdict, field, fields
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lmeraser.config.validation import STRICT, validated
from lmeraser.hashing import canonical_json
from lmeraser.ids import comparable


@dataclass(frozen=True, config=STRICT)
class BackboneConfig:
    """The frozen vision model.

    Attributes:
        name: a timm model name. Token prompts need a Vision Transformer; a pad prompt takes any model.
        weights: "pretrained" (timm's own, by name), "trained" (by ``lmeraser pretrain``), or a file
            (.safetensors, or a plain state dict readable with ``torch.load(weights_only=True)``).
        image_px: side of the square that images are resized to; position embeddings are resampled.
        model_args: further arguments of the timm model, such as embed_dim or depth.
        device: where the backbone runs for rows of the store; part of the store's fingerprint.
    """

    name: str = "deit_tiny_patch16_224"
    weights: str = "pretrained"
    image_px: int = Field(default=224, ge=16, le=1024)
    model_args: dict[str, int] = field(default_factory=dict)
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True, config=STRICT)
class PartitionConfig:
    """Anchors, dendrogram and partition (design 4.2).

    Attributes:
        anchors: number of centroids of public routing features; above 4096 they are found in groups (decision 57).
        routing_block: how many blocks of a Vision Transformer, or stages of another backbone, run before routing
            features are read. They run without a prompt. An early block makes routing cheap (decision 44).
        routing_pool: "patch" for the mean patch token, "class" for the class token.
        max_cluster_rows: a node of the dendrogram is split while it holds more rows than this. So many rows one owner
            embeds again when its prompt changes: a deletion costs at most this many row-passes and a tuning. Fewer and
            larger clusters are more accurate and, in expectation, cheaper: choose it such that there are about as many
            clusters as devices.
        min_tuned_rows: a cluster with fewer rows gets no specialist.
    """

    anchors: int = Field(default=1024, ge=2, le=65536)
    routing_block: int = Field(default=1, ge=1)
    routing_pool: Literal["patch", "class"] = "patch"
    max_cluster_rows: int = Field(default=20_000, ge=1)
    min_tuned_rows: int = Field(default=16, ge=1)


@dataclass(frozen=True, config=STRICT)
class PromptConfig:
    """The prompt of a cluster (design 4.3).

    Attributes:
        kind: "pad" is an additive frame of pixels (LMEraser, section 4); "token" is learned tokens
            after the class token (VPT, arXiv 2203.12119, section 3.2).
        pad_px: width of the frame; only for "pad".
        tokens: number of learned tokens; only for "token".
        depth: block at which tokens enter; 0 is the input of the first block. Only for "token".
        public_epochs: sweeps over public rows for the public prompt, which is used for every row that has no specialist
            prompt; 0 for no public prompt.
        public_rows: how many public rows it is tuned on, drawn by a hash of the sample id; all when there are fewer.
    """

    kind: Literal["pad", "token"] = "token"
    pad_px: int = Field(default=8, ge=1)
    tokens: int = Field(default=16, ge=1, le=512)
    depth: int = Field(default=0, ge=0)
    public_epochs: int = Field(default=3, ge=0)
    public_rows: int = Field(default=5000, ge=1)

    @model_validator(mode="after")
    def _depth_is_for_tokens(self) -> Self:
        if self.kind == "pad" and self.depth != 0:
            raise ValueError(f"prompt.depth is {self.depth}, but a pad prompt enters at the pixels: only 0 is allowed")
        return self


@dataclass(frozen=True, config=STRICT)
class TuningConfig:
    """The deterministic program that tunes one cluster's prompt.

    Attributes:
        coreset_rows: how many of a cluster's rows its prompt is tuned on; all when there are fewer. Deleting another
            row costs no pass; deleting one of these costs a tuning of ``2 · epochs · coreset_rows`` row-passes, and
            one pass of every row of the cluster.
        epochs: sweeps over the coreset.
        batch_rows: rows in one step.
        learning_rate: peak rate of the prompt; it falls to zero on a half cosine.
        head_learning_rate: peak rate of the linear head that is tuned together with a public prompt and discarded.
        weight_decay: decoupled weight decay of the prompt and that linear head.
        shift_px: augmentation: images are shifted by up to this many pixels in each direction.
        flip: augmentation: half of the images are mirrored.
    """

    coreset_rows: int = Field(default=300, ge=1)
    epochs: int = Field(default=4, ge=1)
    batch_rows: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    head_learning_rate: float = Field(default=0.01, gt=0)
    weight_decay: float = Field(default=0.0001, ge=0)
    shift_px: int = Field(default=0, ge=0)
    flip: bool = False


@dataclass(frozen=True, config=STRICT)
class HeadsConfig:
    """The closed-form heads (design 4.4).

    Attributes:
        head_dim: number of features that enter the heads, after the public projection.
        cells: cells along each side of the image in which the patch tokens of a Vision Transformer are averaged after a
            quarter of its blocks, as further features; at most one per patch, 1 for none.
    """

    head_dim: int = Field(default=1024, ge=8, le=4096)
    cells: int = Field(default=3, ge=1, le=16)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StateSections:
    """What determines the state and is written alike in a configuration file and in the store."""

    seed: int = 0
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StateConfig(StateSections):
    """Everything that determines the state, besides the rows and the public artifacts.

    Attributes:
        labels: names of the labels, at least two.
    """

    labels: tuple[str, ...]

    @staticmethod
    def of(sections: StateSections, labels: tuple[str, ...]) -> StateConfig:
        """The configuration with these sections, over these labels.

        Raises:
            ConfigError: when the parts do not fit together.
        """
        shared = {each.name: getattr(sections, each.name) for each in fields(StateSections)}
        return validated(StateConfig, {**shared, "labels": labels}, "configuration")

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError(f"labels lists {len(self.labels)} name(s); at least 2 are needed")
        repeated = sorted({name for name in self.labels if self.labels.count(name) > 1})
        if repeated:
            raise ValueError(f"labels repeats {', '.join(repeated)}")
        # Labels that differ only in invisible characters cannot be told apart.
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

    def tunes(self, rows: int) -> bool:
        """Whether a cluster with this many rows gets a specialist."""
        return rows >= self.partition.min_tuned_rows

    def canonical(self) -> bytes:
        """The bytes of this configuration that enter the state root."""
        return canonical_json(asdict(self))


def state_config_from_json(value: Any) -> StateConfig:
    """The configuration as it is written in a store.

    Raises:
        ConfigError: when the value is not such a configuration.
    """
    return validated(StateConfig, value, "store.json")
