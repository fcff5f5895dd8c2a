"""Where an actor's process runs, and certainty that it has ended.

Ray answers that an actor is dead as soon as it has decided so; a frozen process may live on for seconds, and could
still write to the store when it is woken.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lmeraser.errors import StoreError

_POLL_S = 0.01
# Ray ends a process that does not react to its first signal after five seconds.
_LONGEST_S = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessLocation:
    """A process on a node of the Ray cluster, and the ids of the GPUs that Ray gave it."""

    node_id: str
    pid: int
    gpus: tuple[int | str, ...] = ()

    @staticmethod
    def here() -> ProcessLocation:
        """This process."""
        return ProcessLocation(ray.get_runtime_context().get_node_id(), os.getpid(), tuple(ray.get_gpu_ids()))


def await_end(place: ProcessLocation) -> bool:
    """Return True once the process is gone; False where its node cannot be asked, because it is gone itself.

    Raises:
        StoreError: when it outlives its end by 30 s, so that nothing may count as erased yet.
    """
    if place.node_id == ray.get_runtime_context().get_node_id():
        ended = _watch(place.pid)
    else:
        there = NodeAffinitySchedulingStrategy(place.node_id, soft=False)
        try:
            ended = ray.get(ray.remote(num_cpus=0)(_watch).options(scheduling_strategy=there).remote(place.pid))
        except RayError as error:
            _log.warning("node %s cannot be asked whether process %d is gone: %s", place.node_id, place.pid, error)
            return False
    if not ended:
        raise StoreError(
            f"process {place.pid} on node {place.node_id} still runs {_LONGEST_S:.0f} s after it was killed, "
            "and could still write to the store"
        )
    return True


def _watch(pid: int) -> bool:
    until = time.monotonic() + _LONGEST_S
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(_POLL_S)
    return False
