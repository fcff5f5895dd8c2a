"""The result of an audit: sections that passed, failed or were not done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "not done"]
Verdict = Literal["passed", "failed", "incomplete"]


@dataclass(frozen=True)
class Table:
    """Rows of text below column names."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """One question and its answer.

    Attributes:
        name: one word that identifies the section in JSON.
        title: the question.
        status: what could not be examined is "not done", never "passed".
        said: sentences for people.
        findings: why it failed, or why it was not done.
        tables: figures for people.
        figures: the same for programs.
        plots: SVG documents.
    """

    name: str
    title: str
    status: Status
    said: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    plots: tuple[str, ...] = ()


def section(name: str, title: str, findings: Sequence[str], **rest: Any) -> Section:
    """A section that was done: it failed if it has findings."""
    return Section(name, title, "failed" if findings else "passed", findings=tuple(findings), **rest)


def not_done(name: str, title: str, *reasons: str) -> Section:
    """A section that could not be done."""
    return Section(name, title, "not done", findings=reasons)


@dataclass(frozen=True)
class Audit:
    """The sections, and what they are about.

    Attributes:
        store, store_id: which store.
        made_at: ISO 8601, UTC.
        code: version of this project.
        fingerprint: the store's numerics.
        requests: ids of the deletions that were audited.
        state_root: root of the newest commit; None where the log cannot be read.
        sections: in the order of the report.
    """

    store: str
    store_id: str
    made_at: str
    code: str
    fingerprint: dict[str, str]
    requests: tuple[str, ...]
    state_root: str | None
    sections: tuple[Section, ...]

    @property
    def verdict(self) -> Verdict:
        """Failed if a section failed; incomplete if none failed and one was not done."""
        statuses = {section.status for section in self.sections}
        if "failed" in statuses:
            return "failed"
        return "incomplete" if "not done" in statuses else "passed"

    def to_json(self) -> dict[str, Any]:
        """The audit as a JSON value, without its plots."""
        value = {"format": 1, "verdict": self.verdict, **asdict(self)}
        for part in value["sections"]:
            del part["plots"]
        return value
