"""Previews of deletions: what they say comes about, or the deletion is refused and nothing is begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rebuilding import Rebuild
from small_system import System, finish, samples

from actors.committer import ApplyResult
from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.transition import Change, Transition
from actors.turns import Turns
from lmeraser.deletion import Deletion, DeletionRequest, Preview
from lmeraser.errors import NotReadyError, OwnerFailedError, RequestError, StalePreviewError
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import DATA_FOLDERS

SystemOf = Callable[..., System]
REQUEST = DeletionRequest(("s3", "s4", "nowhere"), ("u7", "nobody"))


def overtaken(coordinator: Coordinator, times: int) -> Callable[..., HeadsState]:
    """``Transition.heads_after``, so often with a commit in between when a preview calls it."""
    heads_after, others = Transition.heads_after, [f"s{20 - number}" for number in range(times)]

    def after(transition: Transition, *arguments: Any) -> HeadsState:
        if others and not transition.change.erasures:
            other = others.pop()
            erased(coordinator, coordinator.delete(DeletionRequest((other,))).id)
        return heads_after(transition, *arguments)

    return after


def names_of(system: System) -> list[str]:
    return [name for prefix in (*DATA_FOLDERS, "log/") for name in system.store.names(prefix)]


def bound(request: DeletionRequest, preview: Preview) -> DeletionRequest:
    return replace(request, preview=preview.token)


def erased(coordinator: Coordinator, deletion_id: str) -> Deletion:
    while (deletion := coordinator.deletion(deletion_id)).status == "accepted":
        coordinator.step()
    return deletion


def test_a_preview_says_what_the_deletion_then_does_and_writes_nothing(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    finish(coordinator)
    before, root = names_of(system), system.newest().root
    preview = coordinator.previews.preview(REQUEST, with_ids=True)
    assert (preview.rows, preview.subjects, preview.unknown_ids) == (3, 1, ("nobody", "nowhere"))
    assert preview.sample_ids == ("s3", "s4", "s7")
    assert (names_of(system), system.newest().root) == (before, root)
    deletion = erased(coordinator, coordinator.delete(bound(REQUEST, preview)).id)
    assert (deletion.as_previewed, deletion.rows, deletion.unknown) == (True, 3, 2)
    receipt = coordinator.receipt(deletion.id)
    assert (receipt["after"]["root"], receipt["before"]["log"]) == (preview.root, preview.commit)
    assert deletion.clusters == preview.clusters
    # The row-passes of what is tuned next.
    assert (preview.row_passes > 0) == bool(coordinator.status().awaiting)
    assert (preview.coreset_rows > 0) == bool(coordinator.status().awaiting)


def test_ids_are_named_only_when_asked(system_of: SystemOf) -> None:
    assert system_of("minute", 24).coordinator().previews.preview(REQUEST).sample_ids is None


def test_a_preview_of_unknown_ids_keeps_the_root(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    request = DeletionRequest(("nowhere",))
    preview = coordinator.previews.preview(request)
    assert (preview.rows, preview.root, preview.row_passes) == (0, system.newest().root, 0)
    assert erased(coordinator, coordinator.delete(bound(request, preview)).id).as_previewed


def test_all_rows_can_be_previewed(system_of: SystemOf) -> None:
    coordinator = system_of("minute", 24).coordinator()
    request = DeletionRequest(tuple(row.sample_id for row in samples(0, 24)))
    preview = coordinator.previews.preview(request)
    assert erased(coordinator, coordinator.delete(bound(request, preview)).id).as_previewed


def test_after_a_commit_a_preview_is_stale_and_nothing_is_begun(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    preview = coordinator.previews.preview(REQUEST)
    erased(coordinator, coordinator.delete(DeletionRequest(("s20",))).id)
    records = coordinator.status().log_records
    with pytest.raises(StalePreviewError, match=f"preview is of commit {preview.commit}, and the newest is"):
        coordinator.delete(bound(REQUEST, preview))
    assert coordinator.status().log_records == records
    assert len(coordinator.recent_deletions()) == 1
    again = coordinator.previews.preview(REQUEST)
    assert erased(coordinator, coordinator.delete(bound(REQUEST, again)).id).as_previewed


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (DeletionRequest(("s3", "s4"), ("u7",)), "of other ids, or of another store"),
        (DeletionRequest(("s3", "s4", "nowhere", "u7"), ("nobody",)), "of other ids, or of another store"),
    ],
)
def test_a_preview_is_of_its_ids_alone(system_of: SystemOf, other: DeletionRequest, message: str) -> None:
    coordinator = system_of("minute", 24).coordinator()
    preview = coordinator.previews.preview(REQUEST)
    with pytest.raises(RequestError, match=message):
        coordinator.delete(bound(other, preview))


def test_a_forged_preview_is_refused(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    preview = coordinator.previews.preview(REQUEST)
    commit, root, mac = preview.token.split("-")
    for token in (f"{int(commit) + 1}-{root}-{mac}", f"{commit}-{'0' * 64}-{mac}", f"{commit}-{root}-{'0' * 64}"):
        with pytest.raises(RequestError, match="of other ids, or of another store"):
            coordinator.delete(replace(REQUEST, preview=token))
    for token in ("", "1", f"{preview.token} ", f"0{preview.token}", "x" * 1000):
        with pytest.raises(RequestError, match="allowed is the token that a preview has given"):
            coordinator.delete(replace(REQUEST, preview=token))
    foreign = system_of("coarse", 24).coordinator().previews.preview(REQUEST)
    with pytest.raises(RequestError, match="of other ids, or of another store"):
        coordinator.delete(bound(REQUEST, foreign))


def test_what_was_previewed_is_erased_before_everything_else(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    put_rows(system.store, system.hash_key, f"{prefix}rows", system.pipeline().rows(samples(24, 27)), seed=0)
    preview = coordinator.previews.preview(REQUEST)
    first = coordinator.delete(DeletionRequest(("s9",)))
    added = coordinator.ingest(prefix)
    deletion = coordinator.delete(bound(REQUEST, preview))
    coordinator.delete(DeletionRequest(("s10",)))
    assert erased(coordinator, deletion.id).as_previewed
    assert coordinator.deletion(first.id).status == "accepted" and not added.done()
    finish(coordinator)
    assert coordinator.deletion(first.id).rows == 1 and added.result().added == 3


def test_a_second_deletion_as_previewed_waits_for_the_first(system_of: SystemOf) -> None:
    coordinator = system_of("minute", 24).coordinator()
    other = DeletionRequest(("s9",))
    previews = [coordinator.previews.preview(request) for request in (REQUEST, other)]
    first = coordinator.delete(bound(REQUEST, previews[0]))
    with pytest.raises(StalePreviewError, match=f"deletion {first.id} was previewed too and is erased first"):
        coordinator.delete(bound(other, previews[1]))


def test_a_repeated_request_gets_the_first_answer(system_of: SystemOf) -> None:
    coordinator = system_of("minute", 24).coordinator()
    preview = coordinator.previews.preview(REQUEST)
    request = replace(bound(REQUEST, preview), idempotency_key="once")
    first = coordinator.delete(request)
    finish(coordinator)
    assert coordinator.delete(request).id == first.id


def test_a_restart_keeps_the_promise(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.state.segment.MAX_SEGMENT_ROWS", 2)
    monkeypatch.setattr("actors.eraser.MAX_SEGMENTS", 1)
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    request = DeletionRequest(tuple(f"s{number}" for number in range(0, 24, 3)))
    preview = coordinator.previews.preview(request)
    deletion = coordinator.delete(bound(request, preview))
    coordinator.step()
    coordinator = system.coordinator()
    coordinator.delete(DeletionRequest(("s1",)))
    assert erased(coordinator, deletion.id).as_previewed


def test_an_owner_that_fails_ends_the_promise_and_not_the_deletion(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    preview = coordinator.previews.preview(REQUEST)
    deletion = coordinator.delete(bound(REQUEST, preview))
    other = coordinator.delete(DeletionRequest(("s9",)))
    apply = coordinator._committer.apply
    failing = [OwnerFailedError("out of memory")]

    def fail_once(change: Change) -> ApplyResult:
        if failing:
            raise failing.pop()
        return apply(change)

    monkeypatch.setattr(coordinator._committer, "apply", fail_once)
    coordinator._backlog.clock = lambda: 0.0
    coordinator.step()
    assert coordinator.deletion(deletion.id).reason == "out of memory"
    assert erased(coordinator, other.id).rows == 1
    coordinator._backlog.clock = lambda: 100.0
    after = erased(coordinator, deletion.id)
    assert (after.rows, after.as_previewed) == (3, False)


def test_a_preview_during_a_commit_is_made_again(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    heads_after = overtaken(coordinator, times=1)
    monkeypatch.setattr("actors.transition.Transition.heads_after", heads_after)
    preview = coordinator.previews.preview(REQUEST)
    assert preview.commit == system.newest().number
    assert erased(coordinator, coordinator.delete(bound(REQUEST, preview)).id).as_previewed


def test_a_preview_that_commits_overtake_again_and_again_is_given_up(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = system_of("minute", 24).coordinator()
    monkeypatch.setattr("actors.transition.Transition.heads_after", overtaken(coordinator, times=9))
    with pytest.raises(StalePreviewError, match="committed during each of 3 tries"):
        coordinator.previews.preview(REQUEST)


def test_too_many_rows_are_refused(system_of: SystemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.previews.MAX_ROWS", 2)
    coordinator = system_of("minute", 24).coordinator()
    with pytest.raises(RequestError, match="cover 3 rows; a preview of at most 2"):
        coordinator.previews.preview(REQUEST)


@pytest.mark.parametrize("filled", [False, True])
def test_during_a_rebuild_a_preview_is_right_or_stale(system_of: SystemOf, filled: bool) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    finish(coordinator)
    config = system.manifest.config
    rebuild = Rebuild(system, replace(config, labels=(*config.labels, "white")))
    rebuild.begin(coordinator)
    finish(coordinator)
    if filled:
        rebuild.fill(coordinator)
    before = coordinator.previews.preview(REQUEST)
    deletion = erased(coordinator, coordinator.delete(bound(REQUEST, before)).id)
    assert deletion.as_previewed
    other = DeletionRequest(("s11",))
    late = coordinator.previews.preview(other)
    coordinator = rebuild.finish(coordinator)
    with pytest.raises(StalePreviewError):
        coordinator.delete(bound(other, late))
    again = coordinator.previews.preview(other)
    assert again.root != late.root
    assert erased(coordinator, coordinator.delete(bound(other, again)).id).as_previewed


def test_a_decision_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.turns.LONGEST_S", 0.01)
    turns = Turns()
    with turns.work(), pytest.raises(NotReadyError, match="nothing was begun; try again"), turns.decision():
        pass
    # It does not hold up later work either.
    with turns.work():
        pass
    with turns.decision():
        pass


def test_decisions_come_between_pieces_of_work() -> None:
    turns, order, inside = Turns(), [], threading.Event()

    def decide() -> None:
        inside.wait(10)
        with turns.decision():
            order.append("decided")

    thread = threading.Thread(target=decide)
    thread.start()
    with turns.work():
        inside.set()
        while not turns._waiting:
            pass
        order.append("worked")
    with turns.work():
        order.append("worked again")
    thread.join(10)
    assert order == ["worked", "decided", "worked again"]
