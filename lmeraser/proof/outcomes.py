"""What became of ids that were to be deleted, according to the log alone.

The proof of an erasure is the receipt of the deletion that covers the id: it is signed, and the id's keyed hash is
among its ``samples`` or ``subjects``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from lmeraser.hashing import HashKey, sample_hash, subject_hash
from lmeraser.state.commit import Erasure
from lmeraser.state.log import Record
from lmeraser.state.record_bodies import ErasedBody, RequestBody, deletions_of

OutcomeKind = Literal["erased", "already erased", "unknown", "waiting", "declined", "not requested"]


@dataclass(frozen=True)
class Outcome:
    """What became of one id.

    Attributes:
        id: the id.
        kind: whether it is that of a sample or of a subject.
        outcome: "erased" by one of the deletions that were asked about; "already erased" by an earlier one; "unknown",
            since it had no row; "waiting" for its erasure or an approval; "declined"; or "not requested".
        deletion: the deletion that erased its rows, or else named it last; None where none did.
        erased_at: when its rows were erased, ISO 8601, UTC; None if they were not.
        keyed_hash: of the id, as in the receipt of the deletion.
    """

    id: str
    kind: Literal["sample", "subject"]
    outcome: OutcomeKind
    deletion: str | None
    erased_at: str | None
    keyed_hash: str


@dataclass
class _Named:
    """What the log says of one keyed hash: the deletions that named it, and those that covered rows of it."""

    named: list[str]
    covered: list[str]


def outcomes(
    records: Iterable[Record],
    hash_key: HashKey,
    sample_ids: Iterable[str],
    subject_ids: Iterable[str],
    deletions: Collection[str],
) -> list[Outcome]:
    """What became of these ids, samples first, in their order.

    Args:
        records: the log, from its first record on.
        hash_key: the store's.
        sample_ids, subject_ids: the ids.
        deletions: ids of the deletions that are asked about.
    """
    hashes: list[tuple[str, Literal["sample", "subject"], str]]
    hashes = [(each, "sample", sample_hash(hash_key, each)) for each in sample_ids]
    hashes += [(each, "subject", subject_hash(hash_key, each)) for each in subject_ids]
    facts: defaultdict[str, _Named] = defaultdict(lambda: _Named([], []))
    wanted = {keyed for _, _, keyed in hashes}
    erased_at: dict[str, str] = {}
    declined: set[str] = set()
    for record in records:
        match record.kind:
            case "request":
                for body in RequestBody.all_from(record):
                    for keyed in wanted.intersection(body.hashes()):
                        facts[keyed].named.append(body.id)
                    for keyed in wanted.intersection((*body.samples, *body.subjects)):
                        facts[keyed].covered.append(body.id)
            case "commit":
                for erasure in map(Erasure.from_json, record.body["erasures"]):
                    for keyed in wanted.intersection((*erasure.samples, *erasure.subjects)):
                        facts[keyed].covered.append(erasure.id)
            case "erased":
                erased_at |= {body.id: body.at for body in ErasedBody.all_from(record)}
            case "declined":
                declined.update(deletions_of(record))
            case _:
                pass
    return [
        Outcome(each, kind, *_outcome_of(facts[keyed], erased_at, declined, set(deletions)), keyed)
        for each, kind, keyed in hashes
    ]


def _outcome_of(
    facts: _Named, erased_at: Mapping[str, str], declined: Collection[str], deletions: Collection[str]
) -> tuple[OutcomeKind, str | None, str | None]:
    erased = [each for each in facts.covered if each in erased_at]
    ours = [each for each in erased if each in deletions]
    if ours:
        return "erased", ours[-1], erased_at[ours[-1]]
    last = next((each for each in reversed(facts.named) if each in deletions), facts.named[-1] if facts.named else None)
    if last is None:
        return "not requested", None, None
    if last in declined:
        return "declined", last, None
    if erased:
        return "already erased", erased[-1], erased_at[erased[-1]]
    return ("unknown" if last in erased_at else "waiting"), last, None
