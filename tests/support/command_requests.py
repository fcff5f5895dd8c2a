"""What commands request of a coordinator on Ray, answered by one in this process."""

from __future__ import annotations

from typing import Any

import pytest
from small_system import System, finish

from actors.coordinator import Coordinator
from cluster.cli.store_deletions import StoreDeletions


def answer_in_process(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands on the system's store ask a coordinator in this process, which then does all of its work."""

    def request(_: object, method: str, *arguments: Any) -> Any:
        coordinator = system.coordinator()
        answer = _answer(coordinator, method, arguments)
        finish(coordinator)
        return answer

    monkeypatch.setattr(StoreDeletions, "_request", request)


def _answer(coordinator: Coordinator, method: str, arguments: tuple[Any, ...]) -> Any:
    match method:
        case "preview" | "preview_of":
            of, with_ids = arguments
            return getattr(coordinator.previews, method)(of, with_ids=with_ids)
        case "approve" | "decline":
            return getattr(coordinator.approvals, method)(*arguments)
        case _:
            return getattr(coordinator, method)(*arguments)
