"""Commits that erase nothing, as tunings make them, without the work of a coordinator."""

from __future__ import annotations

import threading
from dataclasses import replace

from lmeraser.state.checkpoint import CommitReader
from lmeraser.state.commit import Commit
from lmeraser.store import Store


class QuietCommits:
    """Appends commits in which some clusters have other prompts, and all have other heads.

    Each is a copy of what is there under a name of its own, so a replica reads it, and answers stay the same.
    """

    def __init__(self, store: Store, clusters: int) -> None:
        """Read the newest commit; each commit to come gives so many clusters another prompt, in turn."""
        reader = CommitReader(store)
        commit = reader.advance()
        assert commit is not None and reader.log.head is not None, "the store holds no rows"
        self._store, self._log = store, reader.log
        self._term = reader.log.head.term
        self._clusters = clusters
        self._commit: Commit = commit
        self._tuned = [entry.key for entry in commit.clusters if entry.prompt_object is not None]
        self._heads = commit.heads
        self.appended = 0

    @property
    def tuned(self) -> int:
        """How many clusters have a prompt."""
        return len(self._tuned)

    def append(self) -> Commit:
        """Append the next commit, once its objects are there."""
        self.appended += 1
        start = self.appended * self._clusters
        entries = []
        for place in range(start, start + self._clusters):
            entry = self._commit.by_key[self._tuned[place % len(self._tuned)]]
            assert entry.prompt_object is not None
            name = f"{entry.prompt_object.partition('-again-')[0]}-again-{self.appended}"
            self._store.put(name, self._store.get(entry.prompt_object))
            entries.append(replace(entry, prompt_object=name))
        heads = replace(self._heads, heads_object=f"{self._heads.heads_object}-again-{self.appended}")
        self._store.put(heads.heads_object, self._store.get(self._heads.heads_object))
        commit = self._commit.changed(entries).with_heads(heads)
        record = self._log.append("commit", self._term, commit.to_body(self._commit))
        self._commit = Commit.from_record(record, self._commit)
        return self._commit

    def append_every(self, seconds: float, ended: threading.Event) -> None:
        """Append a commit, and another one after each interval, until the event is set."""
        self.append()
        while not ended.wait(seconds):
            self.append()
