"""The HTTP surface over a real system, through the real client; only the network is missing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from direct_service import Service
from PIL import Image
from small_system import LABELS, System, picture, samples
from stored_rows import prompt_of, rows_of

from lmeraser.client.responses import FailedImage
from lmeraser.config import ImagesConfig, ServingConfig
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import KeysError, NotReadyError
from lmeraser.state.keys import init_keys, load_signing_key, public_pem
from lmeraser.state.stored_objects import read_heads
from serving.replica import Replica

SystemOf = Callable[..., System]


def by_hand(system: System, image: bytes, weight: float, temperature: float) -> np.ndarray:
    """Probabilities of one image from the parts of the method, without the serving code."""
    pipeline, commit = system.pipeline(), system.newest()
    row = pipeline.rows([samples(0, 1)[0].__class__("x", "x", 0, image)])
    heads = read_heads(system.store, system.hash_key, commit)
    anchor = int(row.anchors_N[0])
    holders = [entry for entry in commit.clusters if anchor in entry.anchors and entry.prompt_object]
    shared = row.features_NH.astype(float) / 256 @ heads.shared.weight_HC + heads.shared.bias_C

    def softmax(scores: np.ndarray) -> np.ndarray:
        exponentials: np.ndarray = np.exp((scores - scores.max()) / temperature)
        probabilities: np.ndarray = exponentials / exponentials.sum()
        return probabilities

    if not holders:
        return softmax(shared[0])
    entry = max(holders, key=lambda entry: entry.rows)
    prompt = torch.from_numpy(prompt_of(system.store, entry))
    pixels = pipeline.backbone.normalise(torch.from_numpy(pipeline.decode([image])))
    with torch.inference_mode():
        features = pipeline.prompt_kind.features(pixels, prompt[None].to(pixels))
    projected = pipeline.feature_map.project(features.head_NF.cpu().numpy()).astype(float) / 256
    pooled = projected @ heads.pooled.weight_HC + heads.pooled.bias_C
    return (1 - weight) * softmax(shared[0]) + weight * softmax(pooled[0])


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["token", "deep", "pad", "conv"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_mixed_batch_gives_each_image_what_its_own_prompt_gives(
    system_of: SystemOf, variant: str, weight: float
) -> None:
    system = system_of(variant)
    images = [picture(number) for number in range(300, 316)]
    answers = Service(system, temperature=0.2).client(lambda client: client.predict(images, specialist_weight=weight))
    assert len({answer.cluster for answer in answers if not isinstance(answer, FailedImage)}) > 1
    for image, answer in zip(images, answers, strict=True):
        assert not isinstance(answer, FailedImage)
        expected_C = by_hand(system, image, weight, 0.2)
        assert answer.label == LABELS[int(np.argmax(expected_C))]
        answered_C = np.array([answer.probabilities[label] for label in LABELS])
        np.testing.assert_allclose(answered_C, expected_C, atol=1e-3)


def test_an_answer_names_its_cluster_and_commit(system_of: SystemOf) -> None:
    system = system_of()
    answer = Service(system).client(lambda client: client.predict(picture(7)))
    commit = system.newest()
    assert answer.commit == commit.number
    anchor = int(system.pipeline().rows([samples(7, 8)[0]]).anchors_N[0])
    entry = commit.entry(answer.cluster or "")
    assert entry is not None
    assert anchor in entry.anchors
    assert answer.route == "specialist"


def test_after_an_erasure_the_shared_head_serves_the_cluster(system_of: SystemOf) -> None:
    service = Service(system_of())
    row = samples(3, 4)[0]
    assert service.client(lambda client: client.predict(row.image)).route == "specialist"
    service.client(lambda client: client.delete(sample_ids=[row.sample_id]))
    service.coordinator.coordinator.step()
    service.caught_up()
    answer = service.client(lambda client: client.predict(row.image))
    assert answer.route == "shared"
    assert answer.commit == service.system.newest().number


def damaged_avif() -> bytes:
    """Pillow's decoder raises a RuntimeError on it."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(1))).save(buffer, "AVIF")
    data = buffer.getvalue()
    start = data.index(b"mdat") + 4
    return data[:start] + bytes(len(data) - start)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"no image", "of no known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is PostScript; allowed are AVIF, BMP"),
        (b"\0\0\0\x18ftypheic" + bytes(90), "it is HEIC"),
        (damaged_avif(), "cannot be decoded"),
        (picture(1) + bytes(5000), "5000|allowed is 4000"),
    ],
    ids=["text", "PostScript", "HEIC", "AVIF", "too large"],
)
def test_one_bad_image_in_a_batch_fails_alone(system_of: SystemOf, bad: bytes, reason: str) -> None:
    images = [picture(1), bad, picture(2)]
    answers = Service(system_of(), images={"max_bytes": 4000}).client(lambda client: client.predict(images))
    assert [isinstance(answer, FailedImage) for answer in answers] == [False, True, False]
    assert re.search(reason, str(answers[1])) and "BytesIO" not in str(answers[1])


def test_images_come_as_arrays_paths_and_pil_images(system_of: SystemOf, tmp_path: Any) -> None:
    data = picture(5)
    (tmp_path / "five.png").write_bytes(data)
    opened = Image.open(io.BytesIO(data))
    forms = [data, tmp_path / "five.png", np.asarray(opened), opened]
    answers = Service(system_of()).client(lambda client: client.predict(forms))
    assert len({str(answer) for answer in answers}) == 1


def test_multipart_and_plain_bodies_give_the_same_answer(system_of: SystemOf) -> None:
    service = Service(system_of())
    encoded = {"images": [base64.b64encode(picture(5)).decode()]}
    answers = [
        service.http("POST", "/v1/predict", json=encoded),
        service.http("POST", "/v1/predict", files={"images": ("five.png", picture(5), "image/png")}),
        service.http("POST", "/v1/predict", content=picture(5), headers={"content-type": "image/png"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.text for answer in answers}) == 1


def test_a_deletion_goes_through_http_to_its_receipt(system_of: SystemOf) -> None:
    service = Service(system_of())
    deletion = service.client(lambda client: client.delete(sample_ids=["s3", "nowhere"]))
    assert (deletion.status, deletion.rows, deletion.unknown_ids) == ("accepted", 1, ("nowhere",))
    service.coordinator.finish()
    assert service.client(lambda client: client.wait(deletion.id)).status == "completed"
    public_key = public_pem(load_signing_key(service.system.keys).public_key())
    service.client(lambda client: client.receipt(deletion.id)).verify(public_key)
    page = service.client(lambda client: client.deletions_page())
    assert [listed.id for listed in page.items] == [deletion.id]


def test_clusters_and_commit_match_the_store(system_of: SystemOf) -> None:
    service = Service(system_of())
    commit = service.system.newest()
    clusters = service.client(lambda client: client.clusters_page()).items
    assert {cluster.key: cluster.rows for cluster in clusters} == {entry.key: entry.rows for entry in commit.clusters}
    assert all((cluster.state == "tuned") == cluster.specialist for cluster in clusters)
    summary = service.client(lambda client: client.commit())
    assert (summary.number, summary.root, summary.rows) == (commit.number, commit.root, 90)
    assert (summary.clusters, summary.specialists) == (len(clusters), sum(cluster.specialist for cluster in clusters))
    assert service.client(lambda client: client.ready())


@pytest.mark.parametrize(
    ("method", "path", "arguments", "status"),
    [
        ("POST", "/v1/predict", {"json": {"images": []}}, 422),
        ("POST", "/v1/predict", {"json": {"images": ["AAAA"], "specialist_weight": 1.5}}, 422),
        ("POST", "/v1/predict", {"json": {"image": "AAAA"}}, 422),
        ("POST", "/v1/predict", {"content": b"{", "headers": {"content-type": "application/json"}}, 422),
        ("POST", "/v1/predict", {"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
        ("POST", "/v1/predict", {"json": {"images": ["AAAA"] * 65}}, 413),
        ("POST", "/v1/predict", {"content": b" " * 40_000, "headers": {"content-type": "application/json"}}, 413),
        ("POST", "/v1/deletions", {"json": {}}, 422),
        ("POST", "/v1/deletions", {"json": {"sample_ids": "s1"}}, 422),
        ("POST", "/v1/deletions", {"json": {"samples": ["s1"]}}, 422),
        ("GET", "/v1/deletions/none", {}, 404),
        ("GET", "/v1/deletions/none/receipt", {}, 404),
        ("GET", "/v1/nothing", {}, 404),
        ("PUT", "/v1/predict", {}, 405),
    ],
)
def test_a_callers_mistake_gets_a_problem_document(
    system_of: SystemOf, method: str, path: str, arguments: dict[str, Any], status: int
) -> None:
    too_long = arguments.get("content") == b" " * 40_000
    service = Service(system_of(), images=ImagesConfig(max_bytes=100) if too_long else ImagesConfig())
    if too_long:
        arguments = {**arguments, "content": b" " * 200_000}
    answer = service.http(method, path, **arguments)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_an_idempotency_conflict_gets_409(system_of: SystemOf) -> None:
    service = Service(system_of())
    headers = {"Idempotency-Key": "k"}
    assert service.http("POST", "/v1/deletions", json={"sample_ids": ["s1"]}, headers=headers).status_code == 202
    assert service.http("POST", "/v1/deletions", json={"sample_ids": ["s1"]}, headers=headers).status_code == 202
    assert service.http("POST", "/v1/deletions", json={"sample_ids": ["s2"]}, headers=headers).status_code == 409


def test_an_empty_system_answers_with_a_503_problem(system_of: SystemOf) -> None:
    service = Service(system_of())
    service.coordinator.coordinator.delete(DeletionRequest(tuple(row.sample_id for row in samples(0, 90))))
    service.coordinator.finish()
    service.caught_up()
    for method, path, body in (("POST", "/v1/predict", {"images": ["AAAA"]}), ("GET", "/readyz", None)):
        answer = service.http(method, path, json=body)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"]
    assert service.http("GET", "/healthz").status_code == 200


def test_a_cluster_with_a_corrupt_prompt_is_served_by_the_shared_head(system_of: SystemOf) -> None:
    system = system_of()
    row = samples(3, 4)[0]
    anchor = int(system.pipeline().rows([row]).anchors_N[0])
    entry = next(entry for entry in system.newest().clusters if "s3" in rows_of(system.store, entry).sample_ids)
    assert anchor in entry.anchors
    assert entry.prompt_object is not None
    data = bytearray(system.store.get(entry.prompt_object))
    data[-1] ^= 1
    system.store.put(entry.prompt_object, bytes(data))
    assert Service(system).client(lambda client: client.predict(row.image)).route == "shared"


def test_a_coordinator_refuses_a_hash_key_that_is_not_the_stores(system_of: SystemOf, tmp_path: Any) -> None:
    init_keys(tmp_path / "other")
    with pytest.raises(KeysError, match="hash key"):
        System(system_of().store, tmp_path / "other").coordinator()


def test_a_replica_with_another_key_is_never_ready(system_of: SystemOf, tmp_path: Any) -> None:
    system = system_of()
    service = Service(system)
    init_keys(tmp_path / "other")
    replica = Replica(system.store, tmp_path / "other", ServingConfig())
    with pytest.raises(NotReadyError):
        replica.snapshot()
    assert service.http("GET", "/readyz").status_code == 200


@pytest.mark.parametrize("weight", ["2.0", "-0.1", "NaN", "Infinity"])
def test_a_weight_outside_its_range_is_refused(system_of: SystemOf, weight: str) -> None:
    body = f'{{"images": ["AAAA"], "specialist_weight": {weight}}}'
    answer = Service(system_of()).http(
        "POST", "/v1/predict", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert "body" in answer.json()["detail"]
