"""The checks that rows must pass: one content for each id, declared labels, images that can be decoded.

Legend: P pixels per side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from lmeraser.config import ImagesConfig
from lmeraser.data.decode import OF_THE_STORE, decode_image
from lmeraser.data.sample import Sample
from lmeraser.errors import DuplicateSampleError, UndecodableImageError, UnknownLabelError
from lmeraser.hashing import canonical_json
from lmeraser.ids import comparable

_NAMED_IN_MESSAGE = 10


class SampleChecks:
    """Checks samples as they come, and remembers those whose image cannot be decoded.

    Attributes:
        skipped: the reasons for which samples were left out so far, by sample id.
        repeated: how many samples were left out because the same one, equal in everything, came before.
    """

    def __init__(self, labels: tuple[str, ...], images: ImagesConfig, image_px: int) -> None:
        """Accept these labels and images, and decode each image to ``image_px`` pixels per side."""
        self._labels = labels
        self._images = images
        self._image_px = image_px
        self._seen: dict[str, bytes] = {}
        self.skipped: dict[str, str] = {}
        self.repeated = 0

    def decoded(self, samples: Iterable[Sample]) -> Iterator[tuple[Sample, np.ndarray]]:
        """The samples that can be used, each with its image, uint8 [3, P, P].

        Raises:
            DuplicateSampleError: when a sample id was seen before, in this call or an earlier one, with another image,
                label or subject.
            UnknownLabelError: when a label is outside the declared list.
        """
        for sample in samples:
            compared, content = comparable(sample.sample_id), _content_of(sample)
            if (before := self._seen.setdefault(compared, content)) != content:
                raise DuplicateSampleError(
                    f"sample id {sample.sample_id!r} occurs more than once, with another image, label or subject"
                )
            if before is not content:
                self.repeated += 1
                continue
            if not 0 <= sample.label < len(self._labels):
                raise UnknownLabelError(
                    f"sample {sample.sample_id!r} has the label {sample.label}; allowed is 0 to {len(self._labels) - 1}"
                )
            try:
                image_3PP = decode_image(sample.image, self._image_px, self._images)
            except UndecodableImageError as error:
                self.skipped[sample.sample_id] = str(error)
            else:
                yield sample, image_3PP


class CheckedSamples:
    """The samples that can be used, one after the other; iterate once.

    Attributes:
        skipped: the reasons for which samples were left out so far, by sample id.
    """

    def __init__(self, samples: Iterable[Sample], checks: SampleChecks, skip_bad: bool) -> None:
        self._samples = samples
        self._checks = checks
        self._skip_bad = skip_bad
        self.skipped: Mapping[str, str] = checks.skipped

    def __iter__(self) -> Iterator[Sample]:
        good = 0
        for sample, _ in self._checks.decoded(self._samples):
            good += 1
            yield sample
        if self.skipped and not self._skip_bad:
            raise unusable_images(self.skipped, any_good=good > 0)


def check_samples(
    samples: Iterable[Sample], labels: tuple[str, ...], *, skip_bad: bool, images: ImagesConfig = OF_THE_STORE
) -> CheckedSamples:
    """The samples, each checked when its turn comes.

    Iterating raises DuplicateSampleError on a sample id that comes again with other content, and UnknownLabelError on
    a label outside the list, at once. At the end it raises UndecodableImageError with ids and reasons of bad images,
    unless ``skip_bad`` is set.

    Args:
        samples: what is checked.
        labels: the declared labels.
        skip_bad: leave samples with a bad image out instead of refusing.
        images: which images are accepted; by default all that a store may hold.
    """
    return CheckedSamples(samples, SampleChecks(labels, images, 1), skip_bad)


def unusable_images(skipped: Mapping[str, str], any_good: bool) -> UndecodableImageError:
    """The error that names images which cannot be used: ``skipped`` has the reasons by sample id."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        by_reason.setdefault(reason, []).append(name)
    reasons = [f"{_listed(names)}: {reason}" for reason, names in islice(by_reason.items(), _NAMED_IN_MESSAGE)]
    more = len(by_reason) - len(reasons)
    described = "; ".join(reasons) + (f"; and {more} more reasons" if more else "")
    # Where no image is good, there is nothing to ingest without the bad ones.
    advice = ". --skip-bad leaves them out" if any_good else ""
    return UndecodableImageError(f"{len(skipped)} image(s) cannot be used: {described}{advice}")


def _content_of(sample: Sample) -> bytes:
    """A digest of all but the id."""
    head = canonical_json([sample.subject_id, sample.label])
    return hashlib.sha256(head + sample.image).digest()[:16]


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED_IN_MESSAGE
    return ", ".join(map(repr, names[:_NAMED_IN_MESSAGE])) + (f" and {more} more" if more > 0 else "")
