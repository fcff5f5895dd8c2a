"""The erasure desk through Ray: a clerk uploads a table, an officer approves it, both read what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from named_actors import end_actors
from small_system import System

from actors.remote.placement import StoreRef
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import DeletionsConfig, ServingConfig
from lmeraser.errors import ServiceError
from serving.api_keys import create_api_key

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local"), pytest.mark.timeout(600)]


@pytest.fixture
def served(system_of: Callable[..., System]) -> Iterator[tuple[System, str]]:
    system = system_of("minute", 24)
    site = StoreRef(system.store.uri, str(system.keys))
    coordinator_of(site, system.manifest, deletions=DeletionsConfig("required"))
    yield system, start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    stop_service()
    end_actors(system.manifest.store_id)


def test_a_table_is_previewed_approved_and_proved(served: tuple[System, str], tmp_path: Path) -> None:
    system, url = served
    table = tmp_path / "gone.csv"
    table.write_text("customer,why\nu3,x\nnobody,y\n")
    clerk_key, officer_key = (
        create_api_key(system.keys, [scope], name)[1] for scope, name in (("delete", "clerk"), ("approve", "officer"))
    )
    with Client(url, api_key=clerk_key) as clerk, Client(url, api_key=officer_key) as officer:
        (waiting,) = clerk.delete_from_file(table, column="customer", of="subjects")
        assert (waiting.status, waiting.requested_by) == ("requested", "clerk")
        with pytest.raises(ServiceError, match="scope 'approve' is needed"):
            clerk.approve(waiting.id)
        preview = officer.preview_of(waiting.id, show_ids=True)
        assert (preview.rows, preview.sample_ids) == (1, ("s3",))
        assert officer.approve(waiting.id, preview=preview.token).decided_by == "officer"
        assert clerk.wait(waiting.id).as_previewed
        receipt = officer.receipt(waiting.id)
        assert receipt.content["after"]["root"] == preview.root
        person, nobody = clerk.outcomes(subject_ids=["u3", "nobody"], deletions=[waiting.id])
        assert (person.outcome, nobody.outcome) == ("erased", "unknown")
        assert person.keyed_hash in receipt.content["subjects"]
        other = clerk.preview(sample_ids=["s5"])
        declined = clerk.delete(sample_ids=["s5"], preview=other.token)
        assert officer.decline(declined.id, reason="a duplicate").status == "declined"
