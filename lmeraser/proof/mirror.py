"""A mirror of the log, kept apart from the store so that it survives the store.

It holds the log's records and the receipts, so it contains keyed hashes only. With it, an older copy of the store can
be restored without bringing back what was deleted since.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile

from lmeraser.errors import ConfigError, LogError, LostRaceError, ObjectMissingError, StoreFormatError
from lmeraser.hashing import canonical_json
from lmeraser.parallel import in_parallel
from lmeraser.state.layout import record_object
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import load_manifest
from lmeraser.state.record_bodies import receipts_of
from lmeraser.store import Store

NAME = "mirror.json"
_FORMAT = 1


@dataclass(frozen=True)
class MirrorResult:
    """What was copied: records added, records in total, and the digest of the last one, or None if there is none."""

    added: int
    records: int
    head: str | None


class LogMirror:
    """A mirror and its position: each copy reads only what was added to the log since the last one."""

    def __init__(self, store: Store, mirror: Store) -> None:
        """Find the record that the mirror ends with, and create the mirror if there is none.

        Each record holds the digest of the one before. So where both logs have this record they have the same ones
        before it, and those are not read: ``lmeraser log check`` walks the log, and a restore reads the mirror whole.

        Raises:
            ConfigError: when the mirror is in the store itself.
            StoreFormatError: when it is the mirror of another store.
            LogError: when a chain is broken, or the two logs diverge.
        """
        if mirror.uri == store.uri:
            raise ConfigError(f"the mirror would be in the store itself, {store.uri}: name another location")
        manifest = load_manifest(store)
        try:
            mirror.put_if_absent(NAME, canonical_json({"format": _FORMAT, "store_id": manifest.store_id}))
        except LostRaceError:
            pass
        _check_mirror(mirror, manifest.store_id)
        last = Log.at_end(mirror).head
        if last is not None and not _has(store, last):
            raise _difference(store, mirror)
        self._log = Log(store, last)
        self._store = store
        self._mirror = mirror
        self._missing: list[Record] = []

    def copy(self) -> MirrorResult:
        """Copy the records that the mirror does not have.

        Raises:
            LogError: when the chain is broken, or another program has mirrored a different log here.
            StoreError: when the store or the mirror fails; the next copy continues from there.
        """
        self._missing += self._log.advance()
        added = 0
        while self._missing:
            copy_record(self._store, self._mirror, self._missing[0])
            del self._missing[0]
            added += 1
        head = self._log.head
        return MirrorResult(added, head.number if head else 0, head.digest if head else None)


def read_mirror(mirror: Store, store_id: str) -> list[Record]:
    """The mirrored log.

    Raises:
        StoreFormatError: when there is no mirror, or it belongs to another store.
        LogError: when its chain is broken.
    """
    _check_mirror(mirror, store_id)
    return Log(mirror).advance()


def _check_mirror(mirror: Store, store_id: str) -> None:
    """Check that this is the mirror of a store; see :func:`read_mirror`."""
    try:
        value = json.loads(mirror.get(NAME))
    except ObjectMissingError as error:
        raise StoreFormatError(f"{mirror.uri} is not a mirror of a log: {NAME} is missing") from error
    except ValueError as error:
        raise StoreFormatError(f"{mirror.uri}: {NAME} cannot be read: {error}") from error
    if value != {"format": _FORMAT, "store_id": store_id}:
        raise StoreFormatError(f"{mirror.uri} is the mirror of another store: {value!r}; this one is {store_id}")


def _has(store: Store, record: Record) -> bool:
    """Whether the log of the store has this very record."""
    try:
        return Log(store).record(record.number).digest == record.digest
    except LogError:
        return False


def _difference(store: Store, mirror: Store) -> LogError:
    """What is wrong with a mirror whose last record the log of the store does not have. Raises LogError, too."""
    records, mirrored = Log(store).advance(), Log(mirror).advance()
    check_same(records, mirrored)
    return LogError(
        f"the mirror has {len(mirrored)} records and {store.uri} only {len(records)}: an older copy of the store must "
        "be restored (`lmeraser restore`) before anything else is done with it"
    )


def check_same(first: list[Record], second: list[Record]) -> None:
    """Check that the shorter log is the beginning of the longer. Raises LogError."""
    common = in_common(first, second)
    if common < min(len(first), len(second)):
        raise LogError(f"the two logs diverge at record {common + 1}: they do not share one history")


def in_common(first: list[Record], second: list[Record]) -> int:
    """How many records the two logs have in common, from the first on."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].digest == pair[1].digest, pairs))


def copy_record(source: Store, target: Store, record: Record) -> None:
    """Copy a record, and before it the receipts that it makes valid. A record that already exists is kept.

    Raises:
        LogError: when a different record has this number.
    """
    in_parallel(lambda name: target.put(name, source.get(name)), receipts_of(record))
    name = record_object(record.number)
    data = source.get(name)
    try:
        target.put_if_absent(name, data)
    except LostRaceError as error:
        # Two programs that mirror one log to one location write the same bytes.
        if target.get(name) != data:
            raise LogError(
                f"{target.uri} has another record {record.number}: it is the mirror of a different log"
            ) from error
