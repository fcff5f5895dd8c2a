"""The client against a mock service: what it sends, what it retries, what it raises."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
from mock_service import ACCEPTED, CAT, URL, answers, later, predictions, sent_images
from PIL import Image

from lmeraser.client.async_client import AsyncClient
from lmeraser.client.client import Client
from lmeraser.client.responses import Cluster, CommitSummary, FailedImage, Prediction
from lmeraser.deletion import Deletion
from lmeraser.errors import ServiceError, ServiceUnavailableError, WaitTimeoutError


def test_one_image_gives_one_prediction() -> None:
    client, seen = answers(predictions(CAT))
    with client:
        prediction = client.predict(b"an image")
    assert prediction == Prediction("cat", {"cat": 0.9, "dog": 0.1}, "00ff", "specialist", 7)
    assert (seen[0].method, seen[0].url.path) == ("POST", "/v1/predict")
    assert sent_images(seen[0]) == [b"an image"]


def test_every_kind_of_image_arrives_with_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    file = tmp_path / "image.png"
    Image.fromarray(pixels).save(file)
    client, seen = answers(predictions(*[CAT] * 6))
    client.predict([pixels, pixels[:, :, 0], Image.fromarray(pixels), file, str(file), file.read_bytes()])
    arrived = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in sent_images(seen[0])]
    grey = np.repeat(pixels[:, :, :1], 3, axis=2)
    for image, expected in zip(arrived, [pixels, grey, pixels, pixels, pixels, pixels], strict=True):
        np.testing.assert_array_equal(image, expected)


def test_one_bad_image_fails_alone_among_several_and_raises_when_alone() -> None:
    bad = {"error": {"title": "Undecodable image", "detail": "not an image", "status": 422}}
    client, _ = answers(predictions(CAT, bad), predictions(bad))
    first, second = client.predict([b"good", b"bad"])
    assert isinstance(first, Prediction)
    assert second == FailedImage("Undecodable image", "not an image")
    with pytest.raises(ServiceError, match="not an image") as caught:
        client.predict(b"bad")
    assert caught.value.status == 422


def test_many_images_are_sent_in_several_requests_in_order() -> None:
    def echo(request: httpx2.Request) -> httpx2.Response:
        return predictions(*({**CAT, "label": data.decode()} for data in sent_images(request)))

    client, seen = answers(*[echo] * 4)
    answered = client.predict(f"{number}".encode() for number in range(100))
    assert [answer.label for answer in answered if isinstance(answer, Prediction)] == [
        f"{number}" for number in range(100)
    ]
    assert [len(sent_images(request)) for request in seen] == [32, 32, 32, 4]


def test_a_request_that_is_too_large_is_halved_until_it_fits() -> None:
    def at_most_three(request: httpx2.Request) -> httpx2.Response:
        images = sent_images(request)
        return predictions(*[CAT] * len(images)) if len(images) <= 3 else httpx2.Response(413, json={})

    client, _ = answers(*[at_most_three] * 20)
    assert len(client.predict([b"image"] * 10)) == 10


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_transient_errors_are_retried_after_retry_after(status: int, pauses: list[float]) -> None:
    client, seen = answers(later(status, "3"), later(status, "0"), predictions(CAT))
    assert client.predict(b"image").label == "cat"
    assert pauses == [3.0, 0.0]
    assert len(seen) == 3


def test_retry_after_may_be_a_date(pauses: list[float]) -> None:
    client, _ = answers(later(503, "Thu, 01 Jan 2015 00:00:00 GMT"), later(503, "no date"), predictions(CAT))
    client.predict(b"image")
    assert pauses[0] == 0.0
    assert 0.5 <= pauses[1] <= 1.0


def test_pauses_grow_and_end_in_a_typed_error(pauses: list[float]) -> None:
    lost = httpx2.ConnectError("refused")
    client, seen = answers(lost, lost, lost, lost, lost)
    with pytest.raises(ServiceUnavailableError, match="refused") as caught:
        list(client.clusters())
    assert (caught.value.status, caught.value.request_id) == (0, None)
    assert len(seen) == 5
    for attempt, pause in enumerate(pauses):
        assert 0.25 * 2**attempt <= pause <= 0.5 * 2**attempt


@pytest.mark.usefixtures("pauses")
def test_a_call_during_which_a_replica_died_is_retried() -> None:
    died = httpx2.Response(500, text="Internal Server Error")
    client, seen = answers(died, predictions(CAT), *[died] * 5)
    assert client.predict(b"image").label == "cat"
    with pytest.raises(ServiceUnavailableError, match="500 Internal Server Error"):
        client.predict(b"image")
    assert len(seen) == 7


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500])
def test_lasting_errors_are_not_retried(status: int, pauses: list[float]) -> None:
    problem = httpx2.Response(
        status,
        json={"title": "No such thing", "detail": "it is missing"},
        headers={"X-Request-ID": "r-17", "Content-Type": "application/problem+json"},
    )
    client, seen = answers(problem)
    with pytest.raises(ServiceError, match=r"No such thing: it is missing \(request r-17\)") as caught:
        client.deletion("d1")
    assert not isinstance(caught.value, ServiceUnavailableError)
    assert (caught.value.status, caught.value.request_id) == (status, "r-17")
    assert len(seen) == 1 and pauses == []


def test_an_answer_that_is_not_the_services_is_an_error_with_its_text() -> None:
    with pytest.raises(ServiceError, match="<html>gone wrong"):
        answers(httpx2.Response(200, text="<html>gone wrong"))[0].clusters_page()
    with pytest.raises(ServiceError, match="<html>gone wrong"):
        answers(httpx2.Response(418, text="<html>gone wrong"))[0].clusters_page()


@pytest.mark.usefixtures("pauses")
def test_all_retries_of_a_deletion_carry_the_same_idempotency_key() -> None:
    accepted = httpx2.Response(202, json={**ACCEPTED, "unknown_ids": ["x"], "clusters": [], "news": 1})
    client, seen = answers(httpx2.ReadTimeout("slow"), later(503), accepted, accepted)
    deletion = client.delete(sample_ids=["a", "x"], subject_ids=["s"])
    assert deletion == Deletion("d1", "accepted", 2, ACCEPTED["accepted_at"], unknown_ids=("x",))
    assert json.loads(seen[0].content) == {"sample_ids": ["a", "x"], "subject_ids": ["s"]}
    keys = {request.headers["Idempotency-Key"] for request in seen}
    assert len(keys) == 1
    client.delete(sample_ids=["a"])
    assert seen[-1].headers["Idempotency-Key"] not in keys


def test_a_given_idempotency_key_is_used() -> None:
    client, seen = answers(httpx2.Response(202, json=ACCEPTED))
    client.delete(sample_ids=["a"], idempotency_key="mine")
    assert seen[0].headers["Idempotency-Key"] == "mine"


def test_wait_polls_until_the_status_is_reached_and_reports_every_poll(pauses: list[float]) -> None:
    states = ["accepted", "accepted", "erased", "completed"]
    client, seen = answers(*(httpx2.Response(200, json={**ACCEPTED, "status": status}) for status in states))
    polls: list[str] = []
    assert client.wait("d1", progress=lambda deletion: polls.append(deletion.status)).status == "completed"
    assert polls == states
    assert {request.url.path for request in seen} == {"/v1/deletions/d1"}
    assert pauses == sorted(pauses) and len(pauses) == 3


def test_wait_for_erased_also_accepts_later_statuses() -> None:
    for status in ("erased", "completed", "failed"):
        client, _ = answers(httpx2.Response(200, json={**ACCEPTED, "status": status}))
        assert client.wait("d1", status="erased").status == status


def test_wait_for_completed_raises_when_the_deletion_failed() -> None:
    failed = httpx2.Response(200, json={**ACCEPTED, "status": "failed", "reason": "no memory"})
    with pytest.raises(ServiceError, match="no memory"):
        answers(failed)[0].wait("d1")


def test_wait_ends_at_its_timeout() -> None:
    client, _ = answers(*[httpx2.Response(200, json=ACCEPTED)] * 50)
    with pytest.raises(WaitTimeoutError, match=r"d1 is accepted, not erased, after 0\.2 s"):
        client.wait("d1", status="erased", timeout_s=0.2)


def test_the_async_client_is_the_same_logic() -> None:
    replies = iter(
        [
            later(503),
            predictions(CAT),
            httpx2.Response(202, json=ACCEPTED),
            httpx2.Response(200, json={**ACCEPTED, "status": "completed"}),
            httpx2.Response(200, json={"deletions": [ACCEPTED], "next_cursor": None}),
            httpx2.Response(200, json={"commit": 7, "clusters": [], "next_cursor": None}),
            httpx2.Response(200, json={"number": 7, "root": "ab", "rows": 0, "clusters": 0, "specialists": 0}),
            later(503),
        ]
    )

    async def talk() -> None:
        async with AsyncClient(URL, transport=httpx2.MockTransport(lambda _: next(replies))) as client:
            assert (await client.predict(b"image")).label == "cat"
            deletion = await client.delete(sample_ids=["a"])
            assert (await client.wait(deletion.id)).status == "completed"
            assert [deletion.id async for deletion in client.deletions()] == ["d1"]
            assert [cluster async for cluster in client.clusters()] == []
            assert (await client.commit()).number == 7
            assert not await client.ready()

    asyncio.run(talk())


def test_clusters_come_with_their_state() -> None:
    value = {"key": "00ff", "rows": 9, "anchors": 2, "specialist": False, "state": "awaits tuning"}
    client, _ = answers(httpx2.Response(200, json={"commit": 7, "clusters": [value], "next_cursor": None}))
    assert list(client.clusters()) == [Cluster("00ff", 9, 2, False, "awaits tuning")]


def test_the_newest_commit_is_fetched() -> None:
    value = {"number": 7, "root": "ab", "rows": 90, "clusters": 3, "specialists": 2}
    client, seen = answers(httpx2.Response(200, json={**value, "news": 1}))
    assert client.commit() == CommitSummary(7, "ab", 90, 3, 2)
    assert (seen[0].method, seen[0].url.path) == ("GET", "/v1/commit")


def test_ready_asks_once_and_says_no_while_the_service_starts(pauses: list[float]) -> None:
    ready = httpx2.Response(200, json={"status": "ready", "commit": 7})
    client, seen = answers(httpx2.ConnectError("refused"), httpx2.Response(404, text="no routes"), later(503), ready)
    assert [client.ready() for _ in range(4)] == [False, False, False, True]
    assert {request.url.path for request in seen} == {"/readyz"}
    assert pauses == []


def test_ready_raises_where_something_else_answers() -> None:
    with pytest.raises(ServiceError, match="418 a teapot"):
        answers(httpx2.Response(418, text="a teapot"))[0].ready()


def test_both_clients_have_the_same_methods() -> None:
    def surface(kind: type[object]) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert surface(Client) == surface(AsyncClient)


@pytest.mark.usefixtures("pauses")
def test_a_404_that_is_not_the_services_is_retried() -> None:
    no_routes_yet = httpx2.Response(404, text="Path '/v1/predict' not found.")
    client, seen = answers(no_routes_yet, predictions(CAT), *[no_routes_yet] * 5)
    assert client.predict(b"image").label == "cat"
    with pytest.raises(ServiceUnavailableError, match="404 Path"):
        client.predict(b"image")
    assert len(seen) == 7
