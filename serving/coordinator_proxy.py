"""The coordinator as a replica sees it: looked up by name at every call, never created."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.remote.names import coordinator_name
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import LMEraserError, NotReadyError


class Coordinator(Protocol):
    """What the service asks of the coordinator. Every method raises NotReadyError when none is running."""

    async def delete(self, request: DeletionRequest) -> Deletion:
        """Accept a deletion. Raises RequestError, IdempotencyConflictError."""

    async def retry(self, deletion_id: str) -> Deletion:
        """Have a failed deletion's clusters tuned again. Raises UnknownDeletionError, RequestError."""

    async def deletion(self, deletion_id: str) -> Deletion:
        """One deletion. Raises UnknownDeletionError."""

    async def deletions(self) -> list[Deletion]:
        """All deletions, oldest first."""

    async def receipt(self, deletion_id: str) -> dict[str, Any]:
        """A deletion's receipt. Raises UnknownDeletionError; NotReadyError before its rows are erased."""


class CoordinatorProxy:
    """The coordinator of one store, through Ray."""

    def __init__(self, store_id: str, store_uri: str) -> None:
        self._name = coordinator_name(store_id, store_uri)

    async def delete(self, request: DeletionRequest) -> Deletion:
        deletion: Deletion = await self._call("delete", request)
        return deletion

    async def retry(self, deletion_id: str) -> Deletion:
        deletion: Deletion = await self._call("retry", deletion_id)
        return deletion

    async def deletion(self, deletion_id: str) -> Deletion:
        deletion: Deletion = await self._call("deletion", deletion_id)
        return deletion

    async def deletions(self) -> list[Deletion]:
        deletions: list[Deletion] = await self._call("deletions")
        return deletions

    async def receipt(self, deletion_id: str) -> dict[str, Any]:
        receipt: dict[str, Any] = await self._call("receipt", deletion_id)
        return receipt

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            # A look-up asks the control plane and blocks.
            actor = await asyncio.to_thread(ray.get_actor, self._name, namespace="lmeraser")
            return await getattr(actor, method).remote(*arguments)
        except RayTaskError as error:
            if isinstance(error.cause, LMEraserError):
                raise error.cause from None
            raise
        except (ValueError, RayActorError) as error:
            raise NotReadyError("the coordinator is not running; `lmeraser serve` starts it") from error
