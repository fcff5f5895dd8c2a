"""A mirror of the log, kept apart from the store so that it outlives it.

It holds the log's records and the receipts, and so keyed hashes only. With it, an older copy of the store can be
restored without bringing back what was deleted since.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile

from lmeraser.errors import ConfigError, LogError, LostRaceError, ObjectMissingError, StoreFormatError
from lmeraser.hashing import canonical_json
from lmeraser.state.layout import record_object
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import load_manifest
from lmeraser.state.record_bodies import receipt_of
from lmeraser.store import Store

NAME = "mirror.json"
_FORMAT = 1


@dataclass(frozen=True)
class MirrorResult:
    """What was copied: records added, records in all, and the digest of the last; None where there is none."""

    added: int
    records: int
    head: str | None


class LogMirror:
    """A mirror and where it stands: each copy looks only at what was added to the log since the last one."""

    def __init__(self, store: Store, mirror: Store) -> None:
        """Read both logs, and make the mirror where there is none.

        Raises:
            ConfigError: when the mirror lies where the store lies.
            StoreFormatError: when it is the mirror of another store.
            LogError: when a chain is broken, or the two logs part.
        """
        if mirror.uri == store.uri:
            raise ConfigError(f"the mirror would lie in the store itself, {store.uri}: give another place")
        manifest = load_manifest(store)
        try:
            mirror.put_if_absent(NAME, canonical_json({"format": _FORMAT, "store_id": manifest.store_id}))
        except LostRaceError:
            pass
        there = read_mirror(mirror, manifest.store_id)
        self._log = Log(store)
        here = self._log.advance()
        check_same(here, there)
        if len(there) > len(here):
            raise LogError(
                f"the mirror has {len(there)} records and {store.uri} only {len(here)}: an older copy of the store "
                "must be restored (`lmeraser restore`) before anything else is done with it"
            )
        self._store = store
        self._mirror = mirror
        self._lacking = here[len(there) :]

    def copy(self) -> MirrorResult:
        """Copy what the mirror lacks.

        Raises:
            LogError: when the chain is broken, or another program has mirrored another log to this place.
            StoreError: when one of the two places fails; the next copy goes on from there.
        """
        self._lacking += self._log.advance()
        added = 0
        while self._lacking:
            copy_record(self._store, self._mirror, self._lacking[0])
            del self._lacking[0]
            added += 1
        head = self._log.head
        return MirrorResult(added, head.number if head else 0, head.digest if head else None)


def read_mirror(mirror: Store, store_id: str) -> list[Record]:
    """The mirrored log.

    Raises:
        StoreFormatError: when there is no mirror, or it is another store's.
        LogError: when its chain is broken.
    """
    try:
        value = json.loads(mirror.get(NAME))
    except ObjectMissingError as error:
        raise StoreFormatError(f"{mirror.uri} is not a mirror of a log: it has no {NAME}") from error
    except ValueError as error:
        raise StoreFormatError(f"{mirror.uri}: {NAME} cannot be read: {error}") from error
    if value != {"format": _FORMAT, "store_id": store_id}:
        raise StoreFormatError(f"{mirror.uri} is the mirror of another store: {value!r}; this one is {store_id}")
    return Log(mirror).advance()


def check_same(one: list[Record], other: list[Record]) -> None:
    """Check that the shorter log is the beginning of the longer. Raises LogError."""
    common = in_common(one, other)
    if common < min(len(one), len(other)):
        raise LogError(f"the two logs part at record {common + 1}: they are not of the same history")


def in_common(one: list[Record], other: list[Record]) -> int:
    """How many records from the first on are the same."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].digest == pair[1].digest, pairs))


def copy_record(source: Store, target: Store, record: Record) -> None:
    """Copy a record, and first the receipt that it makes valid; one that is there already is left.

    Raises:
        LogError: when another record has its place.
    """
    receipt = receipt_of(record)
    if receipt is not None:
        target.put(receipt, source.get(receipt))
    name = record_object(record.number)
    data = source.get(name)
    try:
        target.put_if_absent(name, data)
    except LostRaceError as error:
        # Two programs that mirror one log to one place write the same.
        if target.get(name) != data:
            raise LogError(f"{target.uri} has another record {record.number}: it mirrors another log") from error
