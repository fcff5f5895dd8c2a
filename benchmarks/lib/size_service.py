"""What a running coordinator and a replica take at one size of the store.

A thread works as the coordinator's process does. Each measurement gets a copy of the store, and a process of its own.
The lease is left out.
"""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.lib.background import wait_until
from benchmarks.lib.durations import spread
from benchmarks.lib.numbered_stores import NumberedStore
from benchmarks.lib.process_memory import resident_bytes
from benchmarks.lib.size_deletions import MOST_IDS, Figures, drawn, is_erased, request, rows_of
from benchmarks.lib.synthetic_stores import running_coordinator
from serving.lease import Lease
from serving.snapshot import load_snapshot

_POLL_S = 0.005
# Single requests that are prepared; the measurement ends with the large one.
_SINGLES = 20_000


def bulk(made: NumberedStore) -> Figures:
    """One request of a tenth of the rows, at most 100,000, while requests of one id follow one another.

    Each of these is sent when the one before is erased; the first one as soon as the large one is accepted.
    """
    rows = rows_of(made)
    ids = min(rows // 10, MOST_IDS)
    numbers = drawn(rows, min(rows, ids + _SINGLES))
    large, singles = numbers[:ids], numbers[ids:]
    erased_s = []
    with running_coordinator(made.folder, made.method, lease_s=0.0) as coordinator:
        begun_s = time.monotonic()
        deletion = coordinator.delete(request(large))
        accepted_s = time.monotonic() - begun_s
        for number in singles:
            single_s = time.monotonic()
            single = coordinator.delete(request([number]))
            wait_until(partial(is_erased, coordinator, single.id), _POLL_S)
            erased_s.append(time.monotonic() - single_s)
            if is_erased(coordinator, deletion.id):
                break
        wait_until(lambda: is_erased(coordinator, deletion.id), _POLL_S)
        large_s = time.monotonic() - begun_s
        wait_until(coordinator.idle)
    return {
        "ids": ids,
        "accepted_s": round(accepted_s, 3),
        "erased_s": round(large_s, 3),
        "singles": len(erased_s),
        "single_erased_s": spread(erased_s),
    }


def replica(made: NumberedStore, reloads: int = 5) -> Figures:
    """A replica's snapshot: until it is loaded, and until it is loaded again after one row was erased."""
    store, manifest, hash_key, method = made.store, made.manifest, made.hash_key, made.method
    gc.collect()
    before, _ = resident_bytes()
    begun_s = time.monotonic()
    lease = Lease(store, manifest.lease_s)
    commit = lease.poll()
    assert commit is not None
    snapshot = load_snapshot(store, method, commit, hash_key)
    ready_s, specialists = time.monotonic() - begun_s, len(snapshot.prompt_objects)
    gc.collect()
    loaded, _ = resident_bytes()
    coordinator = made.coordinator()
    reloads_s = []
    for number in drawn(rows_of(made), reloads):
        deletion = coordinator.delete(request([number]))
        while not is_erased(coordinator, deletion.id):
            coordinator.step()
        begun_s = time.monotonic()
        commit = lease.poll()
        assert commit is not None and deletion.id in commit.requests
        snapshot = load_snapshot(store, method, commit, hash_key, snapshot)
        reloads_s.append(time.monotonic() - begun_s)
    return {
        "ready_s": round(ready_s, 3),
        "reload_s": spread(reloads_s),
        "resident_bytes": loaded - before,
        "specialists": specialists,
    }


def idle(made: NumberedStore, watched_s: float = 30.0) -> Figures:
    """The share of a core that a coordinator takes that has nothing to do, after one deletion was completed."""
    with running_coordinator(made.folder, made.method, lease_s=0.0) as coordinator, ThreadPoolExecutor(1) as thread:
        thread.submit(coordinator.delete, request([0])).result()
        wait_until(coordinator.idle)
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
        time.sleep(watched_s)
        share = (time.process_time() - begun_cpu_s) / (time.monotonic() - begun_s)
        clusters = coordinator.status().clusters
    return {"clusters": clusters, "processor_share": round(share, 5), "watched_s": watched_s}
