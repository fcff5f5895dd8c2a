"""What a user may set: frozen dataclasses that pydantic validates at the edge (YAML, command line)."""

from lmeraser.config.file import Config, load_config
from lmeraser.config.images import ImagesConfig
from lmeraser.config.owners import OwnersConfig
from lmeraser.config.pretrain import PretrainConfig
from lmeraser.config.serving import ServingConfig
from lmeraser.config.sources import SourceConfig
from lmeraser.config.state import (
    BackboneConfig,
    HeadsConfig,
    MethodConfig,
    PartitionConfig,
    PromptConfig,
    TuningConfig,
    method_from_json,
)

__all__ = [
    "BackboneConfig",
    "Config",
    "HeadsConfig",
    "ImagesConfig",
    "MethodConfig",
    "OwnersConfig",
    "PartitionConfig",
    "PretrainConfig",
    "PromptConfig",
    "ServingConfig",
    "SourceConfig",
    "TuningConfig",
    "load_config",
    "method_from_json",
]
