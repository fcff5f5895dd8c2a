"""Settings in which methods are compared: private and test rows, and a backbone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lmeraser.config import Config, SourceConfig, load_config
from lmeraser.data import Sample, open_source
from lmeraser.hashing import draw_uint64

Device = Literal["cpu", "cuda"]

ROOT = Path(__file__).parents[2]
DIGITS_CONFIG = Path(__file__).parent / "digits.yaml"
# Rows and test rows; of GTSRB and the digits all test rows.
SIZES = {
    "digits": (600, 292),
    "mnist": (20_000, 5_000),
    "fashion": (20_000, 5_000),
    "gtsrb": (2_000, 1_760),
    "cifar10": (1_000, 1_000),
}


@dataclass(frozen=True)
class Setting:
    """Rows and a backbone that all methods share.

    Attributes:
        name: of the data.
        config: as a user would write it.
        rows, test_rows: how many rows are drawn.
    """

    name: str
    config: Config
    rows: int
    test_rows: int

    def training_rows(self, seed: int) -> list[Sample]:
        """The private rows."""
        return self.draw_rows(self.config.private, self.rows, seed)

    def test_samples(self, seed: int) -> list[Sample]:
        """The rows by which accuracy is measured."""
        assert self.config.test is not None
        return self.draw_rows(self.config.test, self.test_rows, seed)

    def draw_rows(self, source: SourceConfig, rows: int, seed: int) -> list[Sample]:
        """Rows of a source with the lowest hashes of seed and sample id, sorted by sample id."""
        samples = list(open_source(source).samples(self.labels))
        # The word enters the hash: with another one, results would not compare with earlier ones.
        samples.sort(key=lambda sample: draw_uint64(seed, "contest", sample.sample_id))
        return sorted(samples[:rows], key=lambda sample: sample.sample_id)

    @property
    def results_key(self) -> str:
        """Data and device, under which results are kept."""
        device = self.config.backbone.device
        return self.name if device == "cpu" else f"{self.name}-{device}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names that the private rows declare."""
        return open_source(self.config.private).labels


def find_setting(
    name: str, data: Path, rows: int | None = None, test_rows: int | None = None, device: Device = "cpu"
) -> Setting:
    """The setting of this name.

    Args:
        name: a key of ``SIZES``.
        data: folder with ``private/``, ``public/`` and ``weights/``; the digits are bundled. Fashion-MNIST is read
            from ``private/FashionMNIST/raw``, as torchvision lays it out.
        rows, test_rows: how many are drawn, where not the setting's own number.
        device: where the backbone runs.
    """
    config = _config(name, data)
    config = replace(config, backbone=replace(config.backbone, device=device))
    return Setting(name, config, rows or SIZES[name][0], test_rows or SIZES[name][1])


def _config(name: str, data: Path) -> Config:
    digits = load_config(DIGITS_CONFIG)
    if name == "digits":
        return digits
    if name == "fashion":
        train, test = (
            SourceConfig("torchvision", str(data / "private"), "FashionMNIST", split) for split in ("train", "test")
        )
        return replace(digits, private=train, test=test)
    if name == "mnist":
        files = (str(data / "private" / f"mnist-{part}.parquet") for part in ("train", "test"))
        train, test = (SourceConfig("parquet", file) for file in files)
        return replace(digits, private=train, test=test)
    config = load_config(ROOT / "examples" / f"{name}.yaml", {"data": str(data)})
    assert config.test is not None
    private, test = (replace(source, max_rows=None) for source in (config.private, config.test))
    return replace(config, private=private, test=test)
