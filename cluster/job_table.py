"""Ray's table of jobs, which keeps the command line of every program that connected until the cluster ends."""

from __future__ import annotations

from cluster.authentication import authenticate
from lmeraser.errors import LMEraserError

_CALL_TIMEOUT_S = 10.0


def job_table() -> list[tuple[str, bytes]]:
    """The records of all jobs of the Ray at ``RAY_ADDRESS``, or else of the one that runs on this machine.

    Returns:
        A name and the bytes of each record; empty if no Ray runs, or for ``RAY_ADDRESS=local``.

    Raises:
        OSError: when a Ray runs but does not show its jobs, or none answers at ``RAY_ADDRESS``.
    """
    # Ray reads the environment when it is imported.
    authenticate()
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # missing from its stub

    from cluster.address import cluster_address

    try:
        address = cluster_address()
    except LMEraserError as error:
        raise OSError(str(error)) from error
    if address is None:
        return []
    if address.startswith("ray://"):
        raise OSError(f"{address} (RAY_ADDRESS) is not the host and port of a Ray's control store")
    try:
        client = GcsClient(address=address)
        jobs = client.get_all_job_info(timeout=_CALL_TIMEOUT_S)
        # Jobs that were submitted with `ray job submit`.
        keys = client.internal_kv_keys(b"_ray_internal_job_info_", b"job", timeout=_CALL_TIMEOUT_S)
        submitted = {key: client.internal_kv_get(key, b"job", timeout=_CALL_TIMEOUT_S) for key in keys}
    except Exception as error:
        # Ray raises errors of many kinds here, for example for the token of another cluster.
        raise OSError(f"{address} does not show its jobs: {next(iter(str(error).splitlines()), error)}") from error
    records = {job.job_id.hex(): job.SerializeToString() for job in jobs.values()}
    records |= {key.decode(errors="replace"): value or b"" for key, value in submitted.items()}
    return [(f"job {name} of Ray at {address}", record) for name, record in records.items()]
