"""Where an actor's process runs, and certainty that it has ended (decision 6).

Ray reports an actor as dead as soon as it has decided to end it. A frozen process may live on for seconds, and could
still write to the store once it is woken.
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
# Ray ends a process that ignores its first signal after five seconds.
_MAX_WAIT_S = 30.0
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


def await_end(process: ProcessLocation) -> bool:
    """Return True once the process has ended; False if its node cannot be asked because it is lost itself.

    Raises:
        StoreError: when the process outlives its end by 30 s, so that nothing may count as erased yet.
    """
    if process.node_id == ray.get_runtime_context().get_node_id():
        has_ended = _watch(process.pid)
    else:
        on_its_node = NodeAffinitySchedulingStrategy(process.node_id, soft=False)
        try:
            has_ended = ray.get(
                ray.remote(num_cpus=0)(_watch).options(scheduling_strategy=on_its_node).remote(process.pid)
            )
        except RayError as error:
            _log.warning("cannot ask node %s whether process %d has ended: %s", process.node_id, process.pid, error)
            return False
    if not has_ended:
        raise StoreError(
            f"process {process.pid} on node {process.node_id} still runs {_MAX_WAIT_S:.0f} s after it was killed, "
            "and could still write to the store"
        )
    return True


def _watch(pid: int) -> bool:
    until = time.monotonic() + _MAX_WAIT_S
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(_POLL_S)
    return False
