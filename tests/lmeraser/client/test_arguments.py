"""Arguments of the client that are not valid are refused before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from mock_service import ACCEPTED, CAT, URL, answers, predictions

from lmeraser.client.client import Client
from lmeraser.errors import ConfigError, DataError, RequestError


@pytest.mark.parametrize(
    "image", [np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((2, 8, 8, 3), np.uint8)]
)
def test_the_error_for_an_array_of_the_wrong_shape_or_type_names_what_is_allowed(image: np.ndarray) -> None:
    client, seen = answers()
    with pytest.raises(DataError, match=r"allowed is uint8 \[H, W, 3\] or \[H, W\]"):
        client.predict(image)
    assert seen == []


def test_the_error_for_an_unreadable_path_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.png"):
        answers()[0].predict(tmp_path / "nothing.png")


def test_a_single_string_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(RequestError, match="give a list"):
        answers()[0].delete(subject_ids="u42")


def test_wait_for_another_status_is_refused() -> None:
    with pytest.raises(ConfigError, match="'accepted'"):
        answers()[0].wait("d1", status="accepted")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["", "..", "../clusters?x", "d1/receipt", "a b", "\udce9", "d" * 129, None, 7])
def test_a_malformed_deletion_id_is_refused_and_not_sent(wrong: Any) -> None:
    client, seen = answers()
    for call in (client.deletion, client.retry, client.wait, client.receipt):
        with pytest.raises(RequestError) as refused:
            call(wrong)
        assert repr(wrong) in str(refused.value) and "allowed are 1 to 128 ASCII letters" in str(refused.value)
    assert seen == []


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1, 1.5, True, "1", [0.5], 1j, np.float64("nan")])
def test_a_weight_outside_0_to_1_is_refused_and_not_sent(wrong: Any) -> None:
    client, seen = answers()
    for images in (b"image", [b"image"], []):
        with pytest.raises(RequestError) as refused:
            client.predict(images, specialist_weight=wrong)
        assert f"specialist_weight is {wrong!r}; allowed are numbers from 0 to 1" in str(refused.value)
    assert seen == []


def test_weights_of_any_numeric_type_are_sent() -> None:
    weights: list[Any] = [0, 1, 0.5, np.float32(0.5), np.int64(1)]
    client, seen = answers(*[predictions(CAT) for _ in weights])
    for weight in weights:
        client.predict(b"image", specialist_weight=weight)
    assert [json.loads(request.content)["specialist_weight"] for request in seen] == [0, 1, 0.5, 0.5, 1]


@pytest.mark.parametrize("wrong", ["", "é", "a\nb", "a\r", "\0", " a", "a ", " ", "\udce9", "k" * 256, 7, b"k"])
@pytest.mark.usefixtures("pauses")
def test_an_idempotency_key_that_a_header_cannot_carry_is_refused_and_not_sent(wrong: Any) -> None:
    client, seen = answers()
    with pytest.raises(RequestError) as refused:
        client.delete(sample_ids=["a"], idempotency_key=wrong)
    assert f"idempotency_key is {wrong!r}; allowed are 1 to 255" in str(refused.value)
    assert seen == []


@pytest.mark.parametrize("wrong", ["2030-01-01T00:00:00Z", 12345])
def test_a_deadline_that_is_not_a_datetime_is_refused(wrong: Any) -> None:
    with pytest.raises(RequestError, match="aware datetime"):
        answers()[0].delete(sample_ids=["a"], deadline=wrong)


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="'localhost:8000'"):
        Client("localhost:8000")


@pytest.mark.parametrize("key", ["two words", "line\n", "é", "\t"])
def test_a_malformed_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="LMERASER_API_KEY") as caught:
        Client(URL, api_key=key)
    assert key not in str(caught.value)


def test_ids_are_text_and_integers_stand_for_their_digits() -> None:
    client, seen = answers(*[httpx2.Response(202, json=ACCEPTED)] * 2)
    sample_ids: list[Any] = [0, np.int64(7), "7a", np.str_("b"), 10**20]
    subject_ids: Iterator[Any] = iter([np.uint8(3)])
    client.delete(sample_ids=sample_ids, subject_ids=subject_ids)
    ids = json.loads(seen[0].content)
    assert ids == {"sample_ids": ["0", "7", "7a", "b", "1" + "0" * 20], "subject_ids": ["3"]}
    client.delete(sample_ids=np.arange(2))
    assert json.loads(seen[1].content)["sample_ids"] == ["0", "1"]


@pytest.mark.parametrize(
    "wrong", [None, 7.0, np.float64(7), float("nan"), True, np.True_, b"u1", ("a",), ["a"]], ids=repr
)
def test_the_error_for_an_id_of_another_type_names_the_type(wrong: Any) -> None:
    client, seen = answers()
    with pytest.raises(RequestError, match=f"subject_ids holds .* of the type {type(wrong).__name__}; allowed are str"):
        client.delete(subject_ids=["good", wrong])
    assert seen == []


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [("\udce9", r"is '\\udce9', which is not UTF-8"), ("", "is empty"), ("x" * 1025, "has 1025 characters")],
    ids=["surrogate", "empty", "long"],
)
def test_text_that_cannot_be_an_id_is_refused_and_not_sent(wrong: str, fault: str) -> None:
    client, seen = answers()
    with pytest.raises(RequestError, match=f"an id of sample_ids {fault}.*; allowed are 1 to 1024 characters"):
        client.delete(sample_ids=["good", wrong])
    assert seen == []


@pytest.mark.parametrize("ids", [b"u1", bytearray(b"u1"), memoryview(b"u1"), {"u1": 1}, 7, np.int64(7), None])
def test_anything_but_a_list_of_ids_is_refused(ids: Any) -> None:
    with pytest.raises(RequestError, match="give a list of ids"):
        answers()[0].delete(sample_ids=ids)
