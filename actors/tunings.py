"""Has the clusters tuned and embedded that need it, and commits what comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from actors.committer import Committer
from actors.jobs import EmbeddingJob, PromptJob, TuningJob, WrittenPrompt
from actors.journal import Journal
from actors.owners import Owners, TuningResult
from actors.pace import Pace
from actors.planner import Planner
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.layout import new_prompt_object, new_prompted_object
from lmeraser.state.manifest import Manifest
from lmeraser.state.record_bodies import AttemptBody, RetryBody

# Segments of one embedding: a deletion that touches the cluster costs the work of at most so many.
_SEGMENTS = 4
_log = logging.getLogger(__name__)


class Tunings:
    """The tunings of one coordinator.

    Attributes:
        made: how many tunings have given a prompt.
        held: why no tuning is started for now; empty while tunings are.
    """

    def __init__(
        self,
        manifest: Manifest,
        journal: Journal,
        committer: Committer,
        owners: Owners,
        origins: Callable[[], Mapping[str, ClusterEntry]],
    ) -> None:
        """Tunings of a generation.

        Args:
            manifest: of the generation.
            journal, committer, owners: the coordinator's.
            origins: by the keyed digest of their coresets' contents, the clusters of another generation whose prompts
                and prompted features would be the same.
        """
        self._folder = manifest.folder
        self._journal = journal
        self._committer = committer
        self._owners = owners
        self._planner = Planner(manifest.config.tunes, manifest.config.tuning, journal.history.attempts)
        self._pace = Pace(manifest.config.tuning)
        self._running: dict[str, TuningJob] = {}
        self._origins = origins
        self.made = 0
        self.held = ""

    @property
    def running(self) -> list[str]:
        """Keys of the clusters that are being tuned or embedded."""
        return sorted(self._running)

    @property
    def targets(self) -> set[str]:
        """Names of the objects that are being written."""
        return {target for job in self._running.values() for target in job.targets}

    @property
    def awaiting(self) -> list[str]:
        """Keys of the clusters that are to be tuned."""
        commit = self._committer.commit
        return [entry.key for entry in self._planner.awaiting(commit)] if commit is not None else []

    @property
    def given_up(self) -> dict[str, str]:
        """Clusters whose tuning has failed too often, with the last reason."""
        commit = self._committer.commit
        return self._planner.given_up(commit) if commit is not None else {}

    def expected(self, entries: Iterable[ClusterEntry]) -> tuple[int, float | None]:
        """Row-passes and seconds of tuning these clusters, as far as they are to be tuned; see :class:`Pace`."""
        row_passes = sorted(filter(None, map(self._planner.row_passes, entries)), reverse=True)
        seconds = self._pace.seconds(sum(row_passes))
        at_once = max(1, min(len(row_passes), self._owners.slots))
        return sum(row_passes), None if seconds is None else seconds / at_once

    def finished(self) -> list[TuningResult]:
        """Tunings that have ended since the last call, to be passed to :meth:`take`."""
        return self._owners.finished()

    def take(self, results: Sequence[TuningResult]) -> None:
        """Commit what was written, and record what failed."""
        # What was cancelled is swept, even if the same cluster exists again.
        current = [result for result in results if self._running.get(result.job.key) == result.job]
        for result in current:
            del self._running[result.job.key]
        for result in results:
            self._pace.end(result.job, done=result.written is not None)
        self.made += sum(isinstance(result.written, WrittenPrompt) for result in results)
        self._committer.take(current)
        for result in results:
            if result.reason is not None:
                self._failed(result.job, result.reason, result.is_transient)

    def start(self) -> bool:
        """Start as many tunings as there are slots; whether any was started."""
        commit = self._committer.commit
        if commit is None or self.held:
            return False
        started = False
        for entry in self._planner.ready(commit, self._journal.history.deadlines()):
            if len(self._running) >= self._owners.slots:
                break
            if entry.key not in self._running:
                job = self._job(entry)
                self._pace.begin(job)
                self._owners.start_tuning(job)
                self._running[entry.key] = job
                started = True
        return started

    def forget(self, stopped: Iterable[TuningJob]) -> None:
        """Forget these jobs, which are cancelled."""
        for job in stopped:
            if self._running.get(job.key) == job:
                del self._running[job.key]

    def retry(self, deletion_id: str) -> None:
        """Tune everything again that was given up, for the sake of this failed deletion."""
        self._journal.append_deletions("retry", [RetryBody(deletion_id)])
        self._planner.hurry()

    def _job(self, entry: ClusterEntry) -> TuningJob:
        """What comes next for this cluster: its prompt, then the features of its rows under it."""
        origin = self._origins().get(entry.coreset_contents)
        if entry.prompt_object is None:
            return PromptJob(entry, new_prompt_object(self._folder, entry.key), self._journal.position, origin)
        segments = entry.unembedded[:_SEGMENTS]
        targets = tuple(new_prompted_object(self._folder, entry.key) for _ in segments)
        return EmbeddingJob(entry, segments, targets, self._journal.position, origin)

    def _failed(self, job: TuningJob, reason: str, is_transient: bool) -> None:
        """Retry after a pause. An attempt is recorded, so that a restart does not forget it."""
        commit = self._committer.commit
        entry = commit.entry(job.key) if commit is not None else None
        # Segments that were written again meanwhile were missing, perhaps.
        if entry is None or entry.rows_leaf != job.entry.rows_leaf:
            return
        _log.warning("the tuning of cluster %s failed: %s", job.key, reason)
        if not is_transient:
            self._journal.append("attempt", AttemptBody(job.key, job.entry.coreset_leaf, reason).to_body())
        self._planner.pause(job, is_transient)
