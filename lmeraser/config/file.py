"""The configuration file.

The sections of :class:`StateSections` determine the state and are written into the store. All others, such as data
sources and serving options, do not, and may change from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lmeraser.config.deletions import DeletionsConfig
from lmeraser.config.images import ImagesConfig
from lmeraser.config.owners import OwnersConfig
from lmeraser.config.placeholders import read_yaml
from lmeraser.config.pretrain import PretrainConfig
from lmeraser.config.serving import ServingConfig
from lmeraser.config.sources import SourceConfig
from lmeraser.config.state import StateConfig, StateSections
from lmeraser.config.validation import STRICT, validated
from lmeraser.errors import ConfigError
from lmeraser.ids import comparable


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config(StateSections):
    """One configuration file.

    Attributes:
        store: folder, or ``s3://bucket/prefix``; overridden by ``--store``.
        lease_s: seconds for which a replica may answer after it last asked the store for newer erasures; every erasure
            waits as long. Written into the store when the store is made, and fixed from then on; when absent, 0.4 in a
            folder and 2 in a bucket.
        s3_endpoint: URL of an S3 provider other than AWS, for the store and the rows; overridden by ``--s3-endpoint``.
        labels: names of the labels, which ``lmeraser rebuild`` changes later; when empty, those that the private source
            declares.
        backbone_digest: the SHA-256 digest that the backbone's weights must have, or at least its first 16 hexadecimal
            digits; checked before a store is made and whenever it is opened to add rows. ``lmeraser status`` shows it.
            Pins what ``weights: pretrained`` fetches; not checked when empty.
        public, private: where public and private rows come from.
        test: rows that ``lmeraser predict --test`` predicts.
        images: which images are accepted, as rows and for predictions.
    """

    store: str = ""
    lease_s: float | None = Field(default=None, ge=0.1, le=60)
    s3_endpoint: str = ""
    labels: tuple[str, ...] = ()
    backbone_digest: str = Field(default="", pattern="^([0-9a-f]{16,64})?$")
    public: SourceConfig = field(default_factory=lambda: SourceConfig(kind="glyphs"))
    private: SourceConfig = field(default_factory=lambda: SourceConfig(kind="digits"))
    test: SourceConfig | None = None
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    owners: OwnersConfig = field(default_factory=OwnersConfig)
    deletions: DeletionsConfig = field(default_factory=DeletionsConfig)

    @model_validator(mode="after")
    def _images_are_set_once(self) -> Self:
        if self.serving.images not in (ImagesConfig(), self.images):
            raise ValueError("serving.images is set: write images next to serving, because it applies to rows as well")
        object.__setattr__(self, "serving", replace(self.serving, images=self.images))
        return self

    def state(self, labels: tuple[str, ...]) -> StateConfig:
        """The part that determines the state; ``labels`` are those of the data, used where the file lists none.

        Raises:
            ConfigError: when the parts do not fit together.
        """
        return StateConfig.of(self, tuple(map(comparable, self.labels or labels)))


def load_config(path: Path, variables: Mapping[str, str] | None = None) -> Config:
    """Read a YAML file; ``${name}`` in its strings is replaced from ``variables``, and ``$$`` by ``$``.

    Raises:
        ConfigError: when the file cannot be read, a variable is missing, a key is unknown, or a value is outside its
            range. The message names the key and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {getattr(error, 'strerror', error)}") from error
    return validated(Config, read_yaml(text, variables or {}, str(path)), str(path))
