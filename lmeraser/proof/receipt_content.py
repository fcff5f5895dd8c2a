"""The content of a receipt: which fields it must have, and how they must agree. The signature is checked elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from lmeraser.errors import ReceiptError
from lmeraser.hashing import canonical_json
from lmeraser.json_keys import repeated_key
from lmeraser.state.layout import rows_part

FORMAT = 1
_STRICT = ConfigDict(strict=True, extra="ignore")
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@checked(config=_STRICT)
class _Path:
    name: str
    leaf: _Hash
    siblings: list[tuple[Literal["left", "right"], _Hash]]


@checked(config=_STRICT)
class _Side:
    log: int
    root: _Hash
    rows: list[_Path]


@checked(config=_STRICT)
class _Completed:
    log: int
    root: _Hash


@checked(config=_STRICT)
class _Receipt:
    deletion: str
    store: str
    key_check: _Hash
    samples: list[_Hash]
    subjects: list[_Hash]
    rows: Annotated[int, Field(ge=0)]
    unknown: Annotated[int, Field(ge=0)]
    accepted_at: str
    erased_at: str
    completed_at: str | None
    clusters: list[str]
    before: _Side
    after: _Side
    completed: _Completed | None
    fingerprint: dict[str, Any]
    code: str


_RECEIPT = TypeAdapter(_Receipt)


@dataclass(frozen=True)
class ReceiptSummary:
    """What a receipt says, for people.

    Attributes:
        deletion, store: ids of the deletion and of the store.
        covered: how many rows it is about; 0 if the store had no row of those that were named.
        rows: how many of them this deletion erased; earlier deletions erased the others.
        subjects: how many of the named subjects had rows.
        unknown: how many of the named ids matched no row.
        clusters: how many clusters held the rows that it erased.
        accepted_at, erased_at, completed_at: ISO 8601, UTC; ``completed_at`` is None while it is only erased.
    """

    deletion: str
    store: str
    covered: int
    rows: int
    subjects: int
    unknown: int
    clusters: int
    accepted_at: str
    erased_at: str
    completed_at: str | None


def parse_receipt(data: bytes) -> dict[str, Any]:
    """Parse a receipt file; nothing but its form is checked.

    Raises:
        ReceiptError: when it is not a JSON object, or has a key twice, which readers could understand differently.
    """
    try:
        value = json.loads(data, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ReceiptError("it is not a receipt: its JSON is nested too deep") from error
    except ValueError as error:
        raise ReceiptError(f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ReceiptError("it is not a receipt, which is a JSON object")
    return value


def read_content(receipt: Mapping[str, Any]) -> ReceiptSummary:
    """What the receipt says.

    Raises:
        ReceiptError: when a field is missing or has the wrong type, or fields contradict each other.
    """
    number = receipt.get("format")
    if number != FORMAT or isinstance(number, bool):
        raise ReceiptError(f"the receipt has format {number!r}; this program reads format {FORMAT}")
    try:
        content = _RECEIPT.validate_json(canonical_json(dict(receipt)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ReceiptError(f"the receipt's {field} is not valid: {first['msg']}") from error
    for problem in (*_faults_in_time(content), *_faults_in_change(content)):
        raise ReceiptError(f"the receipt contradicts itself: {problem}")
    return ReceiptSummary(
        deletion=content.deletion,
        store=content.store,
        covered=len(content.samples),
        rows=content.rows,
        subjects=len(content.subjects),
        unknown=content.unknown,
        clusters=len(content.clusters),
        accepted_at=content.accepted_at,
        erased_at=content.erased_at,
        completed_at=content.completed_at,
    )


def _faults_in_time(content: _Receipt) -> Iterable[str]:
    accepted, erased = _moment(content.accepted_at), _moment(content.erased_at)
    if erased < accepted:
        yield f"erased at {content.erased_at}, before it was accepted at {content.accepted_at}"
    if (content.completed_at is None) != (content.completed is None):
        yield "it has a time of completion without a commit, or a commit without a time"
    if content.completed_at is not None and _moment(content.completed_at) < erased:
        yield f"completed at {content.completed_at}, before it was erased at {content.erased_at}"
    if content.completed is not None and content.completed.log < content.after.log:
        yield f"completed by commit {content.completed.log}, which is older than {content.after.log}, which erased"
    if (
        content.completed is not None
        and content.completed.log == content.after.log
        and content.completed.root != content.after.root
    ):
        yield f"completed and erased by commit {content.after.log}, but with different state roots"


def _faults_in_change(content: _Receipt) -> Iterable[str]:
    before, after = content.before, content.after
    if content.rows > len(content.samples):
        yield f"{content.rows} rows, but {len(content.samples)} sample hashes"
    if len(content.samples) < len(content.subjects):
        yield f"{len(content.samples)} sample hashes of {len(content.subjects)} subjects"
    if bool(content.rows) != bool(content.clusters):
        yield f"{content.rows or 'no'} rows were erased, but {len(content.clusters) or 'no'} clusters held them"
    for what, named in (("sample hash", content.samples), ("subject", content.subjects), ("cluster", content.clusters)):
        if repeated := [each for each, count in Counter(named).items() if count > 1]:
            yield f"it has the {what} {repeated[0]} twice"
    expected = {rows_part(key) for key in content.clusters}
    leaves_before = {path.name: path.leaf for path in before.rows}
    leaves_after = {path.name: path.leaf for path in after.rows}
    if leaves_before.keys() != expected or not leaves_after.keys() <= expected:
        yield "its Merkle paths are not those of its clusters"
    if not content.clusters:
        return
    if before.root == after.root or before.log >= after.log:
        yield "rows were erased, but the state after is not a different and later one"
    if unchanged := [name for name, leaf in leaves_after.items() if leaves_before.get(name) == leaf]:
        yield f"rows of {unchanged[0]} were erased, but they are the same before and after"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ReceiptError(f"the receipt has the time {text!r}; allowed is ISO 8601 with an offset")
    return moment


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = repeated_key(pairs)
    if repeated is not None:
        raise ReceiptError(f"it is not a receipt: it has the key {repeated!r} twice")
    return dict(pairs)


def _refuse_constant(text: str) -> None:
    raise ReceiptError(f"it is not a receipt: {text} is not a JSON number")
