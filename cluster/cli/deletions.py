"""``lmeraser delete`` and ``lmeraser deletions``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from actors.log_replay import History
from cluster.cli.ids_file import IdsFile, SubjectsFile, check_given, odd_ids, read_ids
from cluster.cli.options import (
    AsJson,
    ConfigFile,
    KeyFolder,
    S3Endpoint,
    StoreUri,
    find_store,
    key_folder,
    read_settings,
)
from cluster.cli.output import leave_stdout_to_results, print_json, print_pairs, print_rows, warn
from lmeraser.deletion import Deletion, DeletionRequest, Status
from lmeraser.errors import ConfigError, LMEraserError, WaitTimeoutError
from lmeraser.ids import is_text
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_manifest
from lmeraser.store import Store

group = typer.Typer(help="Deletions and how far they have come.", no_args_is_help=True)
_POLL_S = 0.05
_RANK = {"accepted": 0, "erased": 1, "completed": 2, "failed": 2}
Awaited = Annotated[str, typer.Option("--wait", help="Return once the deletion is accepted, erased or completed.")]
TimeoutS = Annotated[float, typer.Option("--timeout", min=0, help="Longest wait in seconds.")]


def register(app: typer.Typer) -> None:
    """Add ``lmeraser delete``."""
    app.command()(delete)


def delete(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    sample_ids: Annotated[list[str] | None, typer.Option("--sample-id", help="A sample to delete.")] = None,
    subject_ids: Annotated[list[str] | None, typer.Option("--subject-id", help="A subject to delete.")] = None,
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Exit with 0 also when none of the ids is held.")
    ] = False,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and ids delete once.")] = None,
    deadline: Annotated[
        str | None, typer.Option(help="When it should be completed: 2026-12-24T18:00:00Z. The nearest goes first.")
    ] = None,
    wait: Awaited = "completed",
    timeout_s: TimeoutS = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Delete samples, and every sample of subjects; exit code 1 when none of the ids is held, or the deletion failed.

    Ids in a file or on standard input stay out of the shell's history; those of options do not. A file holds one id a
    line, as it stands: quotation marks around it are the file's, blanks are the id's.

    Example: lmeraser delete --store /data/gtsrb-store --subjects-file gone.txt
    """
    _check_awaited(wait)
    samples, subjects = read_ids(ids_file, subjects_file)
    samples += check_given(sample_ids, "--sample-id")
    subjects += check_given(subject_ids, "--subject-id")
    if idempotency_key is not None and not is_text(idempotency_key):
        raise ConfigError(f"--idempotency-key is {idempotency_key!r}; allowed is text in UTF-8")
    if not samples and not subjects:
        raise ConfigError("nothing to delete: give --ids-file, --subjects-file, --sample-id or --subject-id")
    target = find_store(store, s3_endpoint, config)
    request = DeletionRequest(tuple(samples), tuple(subjects), idempotency_key, deadline)
    accepted = _asked(target, config, keys, "delete", request)
    fail_point = _awaited(target, accepted.id, wait, timeout_s)
    named, unknown = {*samples, *subjects}, list(accepted.unknown_ids)
    nothing_known = named <= set(unknown)
    _show({**asdict(fail_point), "unknown_ids": unknown, "nothing_known": nothing_known}, as_json)
    _check_not_failed(fail_point)
    if not unknown:
        return
    told = f"{len(unknown)} of {len(named)} id(s) are not held, such as {unknown[0]!r}{odd_ids(unknown)}"
    if nothing_known and not allow_unknown:
        raise LMEraserError(f"nothing was deleted: {told}. --allow-unknown makes that no error")
    warn(told)


@group.command("list")
def list_all(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """All deletions, oldest first.

    Example: lmeraser deletions list --store /data/gtsrb-store
    """
    deletions = _history(find_store(store, s3_endpoint, config)).deletions.values()
    if as_json:
        print_json({"deletions": [asdict(deletion) for deletion in deletions]})
    else:
        columns = ("id", "status", "rows", "accepted_at", "erased_at", "completed_at")
        print_rows(columns, ([getattr(deletion, column) for column in columns] for deletion in deletions))


@group.command("show")
def show(
    deletion_id: Annotated[str, typer.Argument(help="Id of the deletion.")],
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """One deletion.

    Example: lmeraser deletions show 4f0c… --store /data/gtsrb-store
    """
    _show(asdict(_history(find_store(store, s3_endpoint, config)).deletion(deletion_id)), as_json)


@group.command("retry")
def retry(
    deletion_id: Annotated[str, typer.Argument(help="Id of a deletion that failed.")],
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    keys: KeyFolder = None,
    timeout_s: TimeoutS = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Have the clusters of a failed deletion tuned again, and wait for it.

    Example: lmeraser deletions retry 4f0c… --store /data/gtsrb-store
    """
    target = find_store(store, s3_endpoint, config)
    number = _newest_record(target)
    _asked(target, config, keys, "retry", deletion_id)
    fail_point = _awaited(target, deletion_id, "completed", timeout_s, after=number)
    _show(asdict(fail_point), as_json)
    _check_not_failed(fail_point)


@group.command("wait")
def wait_for(
    deletion_id: Annotated[str, typer.Argument(help="Id of the deletion.")],
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    wait: Annotated[str, typer.Option("--status", help="erased or completed.")] = "completed",
    timeout_s: TimeoutS = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Wait for a deletion; exit code 1 when it failed or the time is up.

    Example: lmeraser deletions wait 4f0c… --status erased --store /data/gtsrb-store
    """
    _check_awaited(wait)
    target = find_store(store, s3_endpoint, config)
    load_manifest(target)
    fail_point = _awaited(target, deletion_id, wait, timeout_s)
    _show(asdict(fail_point), as_json)
    _check_not_failed(fail_point)


def _asked(store: Store, config: Path | None, keys: Path | None, method: str, *arguments: Any) -> Deletion:
    """What the coordinator, which is started where none runs, answers."""
    import ray
    from ray._raylet import setproctitle  # type: ignore[attr-defined]  # its stub leaves it out

    from actors.remote.owner_processes import StoreRef
    from cluster.runtime import connect, coordinator_of

    manifest = load_manifest(store)
    leave_stdout_to_results()
    # Ray keeps the command line of whoever connects in its table of jobs, and any user may list processes.
    setproctitle(f"lmeraser {method}")
    connect()
    coordinator = coordinator_of(StoreRef(store.uri, str(key_folder(keys))), manifest, read_settings(config).owners)
    answer: Deletion = ray.get(getattr(coordinator, method).remote(*arguments))
    return answer


def _newest_record(store: Store) -> int:
    load_manifest(store)
    records = Log(store).advance()
    return records[-1].number if records else 0


def _awaited(store: Store, deletion_id: str, status: str, timeout_s: float, after: int = 0) -> Deletion:
    """The deletion once it has reached the status by a record later than ``after``."""
    until = time.monotonic() + timeout_s
    log, history = Log(store), History()
    changed = False
    while True:
        records = log.advance()
        history.replay(records)
        changed |= any(record.number > after and record.body.get("id") == deletion_id for record in records)
        deletion = history.deletion(deletion_id)
        if _RANK[deletion.status] >= _RANK[status] and changed:
            return deletion
        if time.monotonic() >= until:
            raise WaitTimeoutError(f"deletion {deletion_id} is {deletion.status} after {timeout_s:g} s, not {status}")
        time.sleep(_POLL_S)


def _history(store: Store) -> History:
    load_manifest(store)
    history = History()
    history.replay(Log(store).advance())
    return history


def _check_awaited(status: str) -> None:
    allowed: tuple[Status, ...] = ("accepted", "erased", "completed")
    if status not in allowed:
        raise ConfigError(f"cannot wait for {status!r}; allowed is {', '.join(allowed)}")


def _check_not_failed(deletion: Deletion) -> None:
    if deletion.status == "failed":
        raise LMEraserError(f"deletion {deletion.id} is erased, but failed to complete: {deletion.reason}")


def _show(deletion: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(deletion)
    else:
        print_pairs(
            (name, ", ".join(value) if isinstance(value, list | tuple) else value) for name, value in deletion.items()
        )
