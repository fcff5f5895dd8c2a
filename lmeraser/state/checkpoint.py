"""Checkpoints: signed summaries of the log, from which a start goes on instead of reading the whole log.

A checkpoint is a function of the records up to its number. Whoever has the log can make it again, which ``lmeraser log
check`` does; one that is missing, damaged or not signed is ignored, and the log is read from further back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lmeraser.errors import KeysError, LogError, ObjectMissingError
from lmeraser.hashing import canonical_json
from lmeraser.state.commit import Commit, newest_commit
from lmeraser.state.keys import parse_public_pem
from lmeraser.state.layout import CHECKPOINTS, PUBLIC_KEY, checkpoint_object
from lmeraser.state.log import Log, Record
from lmeraser.state.signatures import is_signed, sign
from lmeraser.store import Fence, Store

FORMAT = 1
# If the newest one is damaged, the one before it serves.
_KEPT = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The log up to a record.

    Attributes:
        head: the record, without its body.
        commit: the newest commit; None before the first.
        history: what the coordinator needs of the records (actors.log_replay), a JSON object.
    """

    head: Record
    commit: Commit | None
    history: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The checkpoint as a JSON object, without its signature."""
        head, commit = self.head, self.commit
        return {
            "format": FORMAT,
            "number": head.number,
            "kind": head.kind,
            "term": head.term,
            "previous": head.previous,
            "at": head.at,
            "digest": head.digest,
            "commit": None if commit is None else {"number": commit.number, "body": commit.to_body()},
            "history": dict(self.history),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            KeyError, TypeError: when it is malformed.
            LogError: when its commit is, or the commit's root is not that of its leaves.
        """
        names = ("number", "kind", "term", "previous", "at", "digest")
        head = Record(**{name: value[name] for name in names}, body={})
        commit = value["commit"]
        return Checkpoint(
            head, None if commit is None else Commit.from_body(commit["body"], commit["number"]), value["history"]
        )


def write_checkpoint(store: Store, checkpoint: Checkpoint, key: Ed25519PrivateKey, fence: Fence) -> None:
    """Write a signed checkpoint, and remove all but the newest two."""
    store.put(checkpoint_object(checkpoint.head.number), canonical_json(sign(checkpoint.to_json(), key)))
    kept = store.names(CHECKPOINTS)[-_KEPT:]
    store.purge_below(CHECKPOINTS, kept.__contains__, fence)


def newest_checkpoint(store: Store) -> Checkpoint | None:
    """The newest checkpoint that is sound; None where there is none.

    It is sound if it is signed with the key of the store, and the log has the record that it names.
    """
    names = store.names(CHECKPOINTS)
    key = _public_key(store) if names else None
    for name in reversed(names) if key is not None else ():
        try:
            return read_checkpoint(store, name, key)
        except (ObjectMissingError, LogError) as error:
            _log.warning("%s is ignored: %s", name, error)
    return None


def read_checkpoint(store: Store, name: str, key: Ed25519PublicKey | None) -> Checkpoint:
    """The checkpoint of this name.

    Raises:
        ObjectMissingError: when there is none.
        LogError: when it is malformed or not signed with this key, or the log does not have the record that it names.
    """
    try:
        value = json.loads(store.get(name))
        if key is None or not is_signed(value, key):
            raise LogError("it is not signed with the key of the store")
        if value["format"] != FORMAT:
            raise LogError(f"it has format {value['format']!r}; this version reads format {FORMAT}")
        checkpoint = Checkpoint.from_json(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LogError(f"it cannot be read: {error!r}") from error
    if Log(store).record(checkpoint.head.number).digest != checkpoint.head.digest:
        raise LogError(f"log record {checkpoint.head.number} is another one")
    return checkpoint


def wrong_checkpoints(store: Store, records: Sequence[Record], commits: Sequence[Commit]) -> Iterator[str]:
    """What is wrong with the checkpoints of a store.

    Args:
        store: the store.
        records: of its log, from the first on.
        commits: those among the records.
    """
    names = store.names(CHECKPOINTS)
    key = _public_key(store) if names else None
    for name in names:
        try:
            checkpoint = read_checkpoint(store, name, key)
        except ObjectMissingError:
            # A coordinator has replaced it meanwhile.
            continue
        except LogError as error:
            yield f"{name}: {error}"
            continue
        number = checkpoint.head.number
        newest = next((commit for commit in reversed(commits) if commit.number <= number), None)
        if number <= len(records) and checkpoint.commit != newest:
            yield f"{name} names another commit than the records before it"


class CommitReader:
    """Follows the newest commit of a store: reads the newest checkpoint and the records after it, and then new records.

    Attributes:
        log: the log, at the last record that was read.
        commit: the newest commit that was read; None while there is none.
    """

    def __init__(self, store: Store) -> None:
        """Nothing but the checkpoint is read before :meth:`advance`."""
        checkpoint = newest_checkpoint(store)
        self.log = Log(store, checkpoint.head if checkpoint is not None else None)
        self.commit = checkpoint.commit if checkpoint is not None else None

    def advance(self) -> Commit | None:
        """Read the new records; gives the newest commit.

        Raises:
            LogError: when the chain is broken, or a commit's root is not that of its leaves.
            StoreError: see :meth:`Log.advance`.
        """
        self.commit = newest_commit(self.log.advance(), self.commit)
        return self.commit


def _public_key(store: Store) -> Ed25519PublicKey | None:
    try:
        return parse_public_pem(store.get(PUBLIC_KEY))
    except (ObjectMissingError, KeysError) as error:
        _log.warning("checkpoints are ignored: %s", error)
        return None
