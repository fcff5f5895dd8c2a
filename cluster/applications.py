"""What Ray Serve runs on this Ray cluster. A cluster has one Serve, which listens on one address."""

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
_RESTART_TIMEOUT_S = 60
_SHUTDOWN_TIMEOUT_S = 60


@dataclass(frozen=True)
class RunningApplication:
    """An application of Serve.

    Attributes:
        name: its name in Serve.
        route: the prefix of the paths that it answers, or None.
        store: URI of the store that it answers from; None if the application is not a service of LMEraser.
        started_by: the Ray job that started it; empty if Serve's own tools started it.
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
        url: the address on which it listens.
        applications: everything it runs, including other projects' applications.
    """

    url: str
    applications: tuple[RunningApplication, ...]

    def of_store(self, store_uri: str) -> RunningApplication | None:
        """The application that answers from a store; None if there is none."""
        return next((application for application in self.applications if application.store == store_uri), None)


def running_serve() -> RunningServe | None:
    """What Serve runs now; None if Serve does not run. Waits for a controller that is being restarted.

    Raises:
        ActorUnavailableError: when the controller does not come back.
    """
    until = time.monotonic() + _RESTART_TIMEOUT_S
    while True:
        controller = _controller()
        if controller is None:
            return None
        try:
            # Ray itself would report every attempt on the terminal.
            details = ray.get(controller.get_serve_instance_details.options(max_task_retries=0).remote())
            break
        except ActorDiedError:
            return None
        except ActorUnavailableError:
            if time.monotonic() > until:
                raise
            time.sleep(_POLL_S)
    http = details["http_options"]
    return RunningServe(
        url_of(http["host"], http["port"]), tuple(map(_running_application, details["applications"].values()))
    )


def serves(store_uri: str) -> bool:
    """Whether the service of the store still runs, and is the one that this process started."""
    serve = running_serve()
    application = serve.of_store(store_uri) if serve is not None else None
    return application is not None and application.is_mine


def shut_down() -> None:
    """End Serve with all of its applications; returns once its port is free.

    Raises:
        LMEraserError: when Serve does not end in time.
    """
    controller = _controller()
    if controller is None:
        return
    try:
        # Serve's own call waits for the controller's death, which Ray reports on the terminal as a failure.
        ray.get(controller.graceful_shutdown.remote(wait=False))
    except ActorDiedError:
        return
    until = time.monotonic() + _SHUTDOWN_TIMEOUT_S
    while _controller() is not None:
        if time.monotonic() > until:
            raise LMEraserError(f"Ray Serve does not end within {_SHUTDOWN_TIMEOUT_S} s")
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


def _running_application(details: dict[str, Any]) -> RunningApplication:
    configs = [each["deployment_config"].get("user_config") or {} for each in details["deployments"].values()]
    # The deployment of a service of this project says which store it is of, and who started it.
    ours = next((config for config in configs if STORE in config and STARTED_BY in config), {})
    return RunningApplication(details["name"], details["route_prefix"], ours.get(STORE), ours.get(STARTED_BY, ""))


def _running_jobs() -> set[str]:
    return {job["JobID"] for job in ray._private.state.jobs() if not job["IsDead"]}
