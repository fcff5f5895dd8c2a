"""The checks that rows must pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from source_files import LABELS, png

from lmeraser.data import Sample, check_samples
from lmeraser.errors import DuplicateSampleError, UndecodableImageError, UnknownLabelError


def sample(name: str, label: int = 0, image: bytes | None = None) -> Sample:
    return Sample(name, name, label, png(9) if image is None else image)


def test_good_samples_pass_unchanged() -> None:
    rows = [sample("a"), sample("b", 2), sample("c", 1, png(1))]
    checked = check_samples(rows, LABELS, skip_bad=False)
    assert list(checked) == rows
    assert list(checked.skipped) == []


def test_two_unicode_forms_of_one_sample_id_are_a_duplicate() -> None:
    with pytest.raises(DuplicateSampleError, match="occurs more than once"):
        list(check_samples([sample("caf\u00e9"), sample("cafe\u0301")], LABELS, skip_bad=False))


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_duplicate_sample_id_is_named(skip_bad: bool) -> None:
    rows = [sample("a"), sample("b"), sample("c"), sample("b", 1, png(3))]
    with pytest.raises(DuplicateSampleError, match="'b' occurs more than once"):
        list(check_samples(rows, LABELS, skip_bad=skip_bad))


def test_a_row_that_comes_again_is_taken_once() -> None:
    rows = [sample("a"), sample("b"), sample("a"), sample("c"), sample("a")]
    checked = check_samples(rows, LABELS, skip_bad=False)
    assert [row.sample_id for row in checked] == ["a", "b", "c"]


def test_the_id_of_an_undecodable_image_counts_as_taken() -> None:
    with pytest.raises(DuplicateSampleError, match="'a'"):
        list(check_samples([sample("a", image=b"bad"), sample("a")], LABELS, skip_bad=True))


def test_ids_that_differ_in_case_or_spaces_are_not_duplicates() -> None:
    rows = [sample("a"), sample("A"), sample("a "), sample("á")]
    assert list(check_samples(rows, LABELS, skip_bad=False)) == rows


@pytest.mark.parametrize("label", [-1, 3, 99])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_label_outside_the_list_is_named(label: int, skip_bad: bool) -> None:
    with pytest.raises(UnknownLabelError, match=f"'b' has the label {label}; allowed is 0 to 2"):
        list(check_samples([sample("a"), sample("b", label)], LABELS, skip_bad=skip_bad))


def bad_rows(number: int) -> list[Sample]:
    return [row for index in range(number) for row in (sample(f"good-{index}"), sample(f"bad-{index}", image=b"no"))]


def test_all_undecodable_images_are_named_at_once() -> None:
    rows = [*bad_rows(2), sample("cut", image=png(1)[:-30]), sample("none", image=b""), sample("last")]
    with pytest.raises(UndecodableImageError, match=r"4 image.*--skip-bad") as caught:
        list(check_samples(rows, LABELS, skip_bad=False))
    for name in ("bad-0", "bad-1", "cut", "none"):
        assert repr(name) in str(caught.value)
    assert "good" not in str(caught.value)


def test_bad_images_are_grouped_by_reason() -> None:
    rows = [sample("a", image=b"no"), sample("b", image=b""), sample("c", image=b"no"), sample("d")]
    message = r"3 image.*'a', 'c': the image cannot be decoded: it is of no known.*; 'b': .*it has no bytes.*--skip-bad"
    with pytest.raises(UndecodableImageError, match=message):
        list(check_samples(rows, LABELS, skip_bad=False))
    with pytest.raises(UndecodableImageError) as caught:
        list(check_samples(rows[:3], LABELS, skip_bad=False))
    assert "--skip-bad" not in str(caught.value)


def test_of_many_undecodable_images_the_first_are_named_and_all_counted() -> None:
    checked = check_samples(bad_rows(13), LABELS, skip_bad=False)
    with pytest.raises(UndecodableImageError, match=r"13 image.*'bad-0'.*'bad-9' and 3 more"):
        list(checked)
    assert list(checked.skipped) == [f"bad-{index}" for index in range(13)]


def test_with_skip_bad_undecodable_images_are_left_out_and_reported() -> None:
    checked = check_samples(bad_rows(3), LABELS, skip_bad=True)
    assert [row.sample_id for row in checked] == ["good-0", "good-1", "good-2"]
    assert list(checked.skipped) == ["bad-0", "bad-1", "bad-2"]


def test_samples_are_checked_as_they_come() -> None:
    def endless() -> Iterator[Sample]:
        yield from bad_rows(1)
        for index in itertools.count():
            yield sample(f"{index}")

    checked = check_samples(endless(), LABELS, skip_bad=False)
    assert [row.sample_id for row in itertools.islice(checked, 3)] == ["good-0", "0", "1"]
    assert list(checked.skipped) == ["bad-0"]
