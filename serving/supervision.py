"""The deployment that keeps the coordinator running: a second one in the service's Serve application (decision 51)."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from actors.remote.placement import StoreRef
from actors.remote.supervisor import LOOK_S, Supervisor
from lmeraser.config import DeletionsConfig, OwnersConfig
from lmeraser.errors import LMEraserError
from lmeraser.log_level import set_log_level

_LONGEST_PAUSE_S = 60.0
# A service whose replicas do not start must not keep accepted deletions from being finished.
_REPLICAS_TIMEOUT_S = 600.0
_log = logging.getLogger(__name__)


class CoordinatorSupervision:
    """One replica, with a thread that looks after the coordinator.

    It begins when the service can answer. While KubeRay builds a new cluster next to the one that serves, the old
    one's coordinator works until then, and callers are led to the new cluster soon after.
    """

    def __init__(self, store: str, keys: str, owners: dict[str, Any], deletions: dict[str, Any], service: str) -> None:
        """``service`` is the name of the application's deployment that answers requests."""
        set_log_level()
        self._supervisor = Supervisor(StoreRef(store, keys), OwnersConfig(**owners), DeletionsConfig(**deletions))
        self._application = serve.get_replica_context().app_name
        self._service = service
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Called by Serve at regular intervals; it replaces the replica if this raises."""
        if not self._thread.is_alive():
            raise RuntimeError("the thread that looks after the coordinator has ended")

    def _watch(self) -> None:
        until_s = time.monotonic() + _REPLICAS_TIMEOUT_S
        while not self._service_answers() and time.monotonic() < until_s:
            time.sleep(LOOK_S)
        failures = 0
        while True:
            try:
                pause_s = self._supervisor.look()
                failures = 0
            except (RayError, LMEraserError) as error:
                failures += 1
                pause_s = min(LOOK_S * 2**failures, _LONGEST_PAUSE_S)
                _log.warning("the coordinator is not available; looking again in %.0f s: %s", pause_s, error)
            time.sleep(pause_s)

    def _service_answers(self) -> bool:
        try:
            deployments = serve.status().applications[self._application].deployments
        except (RayError, RayServeException, KeyError):
            return False
        return self._service in deployments and deployments[self._service].replica_states.get("RUNNING", 0) > 0
