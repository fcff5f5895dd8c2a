"""Ray's table of jobs: it keeps the command line of every program that connected, until the cluster ends."""

from __future__ import annotations

from cluster.authentication import authenticate
from lmeraser.errors import LMEraserError

_CALL_S = 10.0


def job_table() -> list[tuple[str, bytes]]:
    """What the Ray of ``RAY_ADDRESS``, or else the one that runs on this machine, keeps of its jobs, by the job.

    Empty where no Ray runs, or ``RAY_ADDRESS=local`` says that none is meant.

    Raises:
        OSError: when one runs and does not show its jobs, or none answers where ``RAY_ADDRESS`` says.
    """
    # Ray reads the environment when it is imported.
    authenticate()
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # its stub leaves it out

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
        jobs = client.get_all_job_info(timeout=_CALL_S)
        # Jobs that were handed in with `ray job submit`.
        keys = client.internal_kv_keys(b"_ray_internal_job_info_", b"job", timeout=_CALL_S)
        submitted = {key: client.internal_kv_get(key, b"job", timeout=_CALL_S) for key in keys}
    except Exception as error:
        # Ray raises errors of many kinds here; a token that is not the cluster's is one of them.
        raise OSError(f"{address} does not show its jobs: {next(iter(str(error).splitlines()), error)}") from error
    found = {job.job_id.hex(): job.SerializeToString() for job in jobs.values()}
    found |= {key.decode(errors="replace"): value or b"" for key, value in submitted.items()}
    return [(f"job {name} of Ray at {address}", data) for name, data in found.items()]
