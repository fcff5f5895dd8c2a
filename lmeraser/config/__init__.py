"""What a user may set: frozen dataclasses that pydantic validates at the edge (YAML, command line)."""

from lmeraser.config.deletions import DeletionsConfig
from lmeraser.config.file import Config, load_config
from lmeraser.config.images import ImagesConfig
from lmeraser.config.owners import OwnersConfig
from lmeraser.config.pretrain import PretrainConfig
from lmeraser.config.serving import AutoscalingConfig, ServingConfig
from lmeraser.config.sources import ColumnsConfig, SourceConfig
from lmeraser.config.state import (
    BackboneConfig,
    HeadsConfig,
    PartitionConfig,
    PromptConfig,
    StateConfig,
    TuningConfig,
    state_config_from_json,
)

__all__ = [
    "AutoscalingConfig",
    "BackboneConfig",
    "ColumnsConfig",
    "Config",
    "DeletionsConfig",
    "HeadsConfig",
    "ImagesConfig",
    "OwnersConfig",
    "PartitionConfig",
    "PretrainConfig",
    "PromptConfig",
    "ServingConfig",
    "SourceConfig",
    "StateConfig",
    "TuningConfig",
    "load_config",
    "state_config_from_json",
]
