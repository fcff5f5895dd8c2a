"""The client as a program uses it: over a network, with a key, by the examples that its documentation gives."""

from __future__ import annotations

import asyncio
import doctest
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from direct_service import Service
from live_service import live
from small_system import System, picture

import lmeraser.client.async_client
import lmeraser.client.client
import lmeraser.client.deletion_methods
from lmeraser import AsyncClient, Client
from lmeraser.errors import AuthenticationError, PermissionDeniedError, ServiceError
from serving.api_keys import create_api_key, revoke_api_key

SystemOf = Callable[..., System]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def service(system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.delenv("LMERASER_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("sign.png").write_bytes(picture(7))
    return Service(system_of())


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with live(service) as address:
        yield address


def test_the_examples_in_the_docstrings_run(service: Service, url: str) -> None:
    examples: dict[str, Any] = {
        "url": url,
        "key": create_api_key(service.system.keys, ["admin"])[1],
        "public_key_pem": (service.system.keys / "signing-key.pub.pem").read_bytes(),
        "np": np,
        "Path": Path,
    }
    with Client(url, api_key=examples["key"]) as client:
        modules = (lmeraser.client.client, lmeraser.client.deletion_methods, lmeraser.client.async_client)
        results = [doctest.testmod(module, extraglobs={**examples, "client": client}) for module in modules]
    assert [(result.failed, result.attempted) for result in results] == [(0, 6), (0, 16), (0, 4)]


@pytest.mark.parametrize("document", ["README.md", "docs/guides/own-data.md"])
def test_the_example_of_a_document_runs(service: Service, url: str, document: str) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert block is not None
    Path("signing-key.pub.pem").write_bytes((service.system.keys / "signing-key.pub.pem").read_bytes())
    code = block[1].replace("http://127.0.0.1:8000", url).replace("stop/17.png", "s3")
    assert code != block[1]
    exec(compile(code, document, "exec"), {})
    assert [(deletion.status, deletion.rows) for deletion in service.coordinator.coordinator.recent_deletions()] == [
        ("completed", 1)
    ]


def test_refusals_by_key_are_typed_and_carry_the_request_id(service: Service, url: str) -> None:
    key, secret = create_api_key(service.system.keys, ["predict"])
    with Client(url) as nobody, Client(url, api_key=secret) as predicting:
        with pytest.raises(AuthenticationError, match="scope 'predict'") as caught:
            nobody.predict(picture(1))
        assert (caught.value.status, bool(caught.value.request_id)) == (401, True)
        with pytest.raises(PermissionDeniedError, match="scope 'delete'") as denied:
            predicting.delete(sample_ids=["s1"])
        assert (denied.value.status, bool(denied.value.request_id)) == (403, True)
        assert predicting.predict(picture(1)).label
        revoke_api_key(service.system.keys, key.id)
        with pytest.raises(AuthenticationError, match="revoked") as revoked:
            predicting.predict(picture(1))
    for error in (caught.value, denied.value, revoked.value):
        assert isinstance(error, ServiceError)
        assert secret not in str(error)


def test_the_key_comes_from_the_argument_or_else_from_the_environment(
    service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMERASER_API_KEY", create_api_key(service.system.keys, ["admin"])[1])
    with Client(url) as client:
        assert list(client.clusters())

    async def clusters(**arguments: Any) -> int:
        async with AsyncClient(url, **arguments) as client:
            return len([cluster async for cluster in client.clusters()])

    assert asyncio.run(clusters())
    with pytest.raises(AuthenticationError):
        asyncio.run(clusters(api_key="another"))
