"""What Ray Serve runs on this Ray cluster. There is one Serve for a cluster, and it listens on one address."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.context import _disconnect

from lmeraser.errors import LMEraserError
from serving.app import STARTED_BY, STORE

_POLL_S = 0.1
_RESTARTED_WITHIN_S = 60
_SHUT_DOWN_WITHIN_S = 60


@dataclass(frozen=True)
class RunningApplication:
    """An application of Serve.

    Attributes:
        name: what Serve knows it by.
        route: the prefix of the paths that it answers, or None.
        store: URI of the store that it answers from; None when it is none of this project's.
        started_by: the Ray job that started it; empty when it was brought up by Serve's own means.
    """

    name: str
    route: str | None
    store: str | None
    started_by: str

    @property
    def is_mine(self) -> bool:
        """Whether this process started it."""
        return self.started_by == this_job()

    @property
    def is_left_over(self) -> bool:
        """Whether the command that started it has ended."""
        return self.started_by != "" and self.started_by not in _running_jobs()


@dataclass(frozen=True)
class RunningServe:
    """Serve with its applications.

    Attributes:
        url: where it listens.
    """

    url: str
    applications: tuple[RunningApplication, ...]

    def of_store(self, store_uri: str) -> RunningApplication | None:
        """The application that answers from a store; None where none does."""
        return next((one for one in self.applications if one.store == store_uri), None)


def running_serve() -> RunningServe | None:
    """What runs now; None where Serve does not. A controller that is being restarted is waited for.

    Raises:
        ActorUnavailableError: when it does not come back.
    """
    until = time.monotonic() + _RESTARTED_WITHIN_S
    while True:
        controller = _controller()
        if controller is None:
            return None
        try:
            # Not again by Ray itself, which tells the terminal of every try.
            details = ray.get(controller.get_serve_instance_details.options(max_task_retries=0).remote())
            break
        except ActorDiedError:
            return None
        except ActorUnavailableError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_S)
    at = details["http_options"]
    return RunningServe(
        url_of(at["host"], at["port"]), tuple(_running(one) for one in details["applications"].values())
    )


def serves(store_uri: str) -> bool:
    """Whether the service of the store that this process started is still there."""
    serve = running_serve()
    application = serve.of_store(store_uri) if serve is not None else None
    return application is not None and application.is_mine


def shut_down() -> None:
    """End Serve with all of its applications; returns once its port is free.

    Raises:
        LMEraserError: when it does not end.
    """
    controller = _controller()
    if controller is None:
        return
    try:
        # Serve's own call waits for the controller's death, of which Ray tells the terminal as of a failure.
        ray.get(controller.graceful_shutdown.remote(wait=False))
    except ActorDiedError:
        return
    until = time.monotonic() + _SHUT_DOWN_WITHIN_S
    while _controller() is not None:
        if time.monotonic() > until:
            raise LMEraserError(f"Ray Serve does not end within {_SHUT_DOWN_WITHIN_S} s")
        time.sleep(_POLL_S)
    _disconnect()


def this_job() -> str:
    """Ray's id of this process as a driver."""
    job: str = ray.get_runtime_context().get_job_id()
    return job


def url_of(host: str, port: int) -> str:
    """Where a service answers."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _controller() -> Any | None:
    try:
        return ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return None


def _running(application: dict[str, Any]) -> RunningApplication:
    told = [one["deployment_config"].get("user_config") or {} for one in application["deployments"].values()]
    ours = next((one for one in told if STORE in one and STARTED_BY in one), {})
    return RunningApplication(
        application["name"], application["route_prefix"], ours.get(STORE), ours.get(STARTED_BY, "")
    )


def _running_jobs() -> set[str]:
    return {job["JobID"] for job in ray._private.state.jobs() if not job["IsDead"]}
