"""Augmentation of public images while a backbone is trained: random, but a function of a seed for each image.

Legend: P pixels per side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from lmeraser.config import ImagesConfig, PretrainConfig
from lmeraser.data.decode import decode_image, decode_picture


class Augmentation:
    """What happens to an image on the way from bytes to pixels: cut, mirrored, RandAugment, by torchvision.

    Mixup, CutMix and erased rectangles are applied to whole batches later.
    """

    def __init__(self, config: PretrainConfig, images: ImagesConfig, image_px: int) -> None:
        """Accept these images, and give ``image_px`` pixels per side."""
        self._config = config
        self._images = images
        self._image_px = image_px

    def decoded(self, data: bytes, seed: int) -> np.ndarray:
        """The augmented image, uint8 [3, P, P]; without augmentation, that of decode_image.

        Raises:
            UndecodableImageError: see decode_image.
        """
        if not self._is_random:
            return decode_image(data, self._image_px, self._images)
        picture = decode_picture(data, self._images)
        # torchvision draws from torch's own generator.
        torch.manual_seed(seed)
        return np.ascontiguousarray(np.asarray(self._transform(picture)).transpose(2, 0, 1))

    @property
    def _is_random(self) -> bool:
        return self._config.crop_scale < 1 or self._config.flip or self._config.rand_augment > 0

    @cached_property
    def _transform(self) -> Callable[[Image.Image], Image.Image]:
        size, interpolation = (self._image_px, self._image_px), v2.InterpolationMode.BICUBIC
        steps: list[Callable[[Image.Image], Image.Image]] = []
        if self._config.crop_scale < 1:
            steps.append(v2.RandomResizedCrop(size, scale=(self._config.crop_scale, 1.0), interpolation=interpolation))
        else:
            steps.append(v2.Resize(size, interpolation=interpolation))
        if self._config.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self._config.rand_augment > 0:
            steps.append(v2.RandAugment(magnitude=self._config.rand_augment, interpolation=interpolation))
        transform: Callable[[Image.Image], Image.Image] = v2.Compose(steps)
        return transform
