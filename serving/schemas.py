"""The bodies of HTTP requests and answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.approvals import MAX_REASON
from lmeraser import deletion
from lmeraser.deletion import Deletion
from lmeraser.ids import MAX_CHARACTERS
from lmeraser.proof.outcomes import Outcome
from lmeraser.state.cluster_entry import ClusterState

Id = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
# Text that the coordinator parses: pydantic would take a number for seconds since 1970.
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="Identifies the kind of problem; stable across versions.")
    title: str
    status: int
    detail: str
    request_id: str = Field(description="Quote this to the operator. Also in the header X-Request-ID.")


class PredictRequest(BaseModel):
    """Images to predict."""

    model_config = ConfigDict(extra="forbid")

    images: list[str] = Field(
        min_length=1,
        description="Image files (PNG, JPEG, …) in base64 (RFC 4648; either alphabet, with or without padding and "
        "white space), or as data: URLs.",
    )
    specialist_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of the pooled head, under the cluster's prompt, in the answer. When absent, the service's "
        "own value if the pooled head is no worse by cross-validation, else 0. Between 0 and 1, an image takes two "
        "passes.",
    )


class ImagePrediction(BaseModel):
    """The answer for one image."""

    label: str
    probabilities: dict[str, float] = Field(description="The five most probable labels, most probable first.")
    cluster: str | None = Field(description="The image's prompt cluster; null when it has none.")
    route: Literal["specialist", "shared", "skipped"] = Field(
        description="`specialist`: the cluster's prompt was used for the answer. `skipped`: the cluster has a prompt "
        "that was not used, because the shared head is the better one. `shared`: otherwise."
    )
    commit: int


class FailedPrediction(BaseModel):
    """Takes the place of a prediction when an image could not be used."""

    error: Problem


class PredictAnswer(BaseModel):
    """One prediction per image, in order; all from the same commit."""

    predictions: list[ImagePrediction | FailedPrediction]
    commit: int


class NamedIds(BaseModel):
    """Samples, and subjects that stand for every sample of theirs."""

    model_config = ConfigDict(extra="forbid")

    sample_ids: list[Id] = []
    subject_ids: list[Id] = []

    def request(self) -> deletion.DeletionRequest:
        """A deletion of these ids."""
        return deletion.DeletionRequest(tuple(self.sample_ids), tuple(self.subject_ids))


class PreviewRequest(NamedIds):
    """Samples, and subjects with every sample of theirs, whose deletion is to be previewed."""

    show_ids: bool = Field(default=False, description="Whether to name the rows that would be erased.")


class DeletionRequest(NamedIds):
    """Samples to delete, and subjects to delete every sample of."""

    deadline: Moment | None = Field(
        default=None, description="When the deletion should be completed. Earliest deadline first."
    )
    preview: str | None = Field(
        default=None,
        description="`token` of a preview of these ids: do exactly what it said. 409 if something was committed since.",
    )

    def asked(self, idempotency_key: str | None, by: str) -> deletion.DeletionRequest:
        """What the coordinator is asked for, by a caller of this name."""
        return replace(
            self.request(), idempotency_key=idempotency_key, deadline=self.deadline, preview=self.preview, by=by
        )


class ApprovalRequest(BaseModel):
    """How a deletion is approved."""

    model_config = ConfigDict(extra="forbid")

    preview: str | None = Field(
        default=None,
        description="`token` of a preview of this deletion: do exactly what it said. 409 if something was committed "
        "since.",
    )


class DeclineRequest(BaseModel):
    """Why a deletion is declined."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=MAX_REASON, description="Kept in the log for good, in clear.")


class OutcomesRequest(NamedIds):
    """Ids whose outcome is asked for."""

    deletions: list[str] = Field(
        default=[], max_length=1000, description="Ids of deletions. What others erased is `already erased`."
    )


class OutcomesAnswer(BaseModel):
    """What became of ids, samples first, in their order."""

    outcomes: list[Outcome]


class TableAnswer(BaseModel):
    """The deletions of the ids of a table: one for every 100,000 ids, in the order of the table."""

    ids: int = Field(description="How many different ids the table holds.")
    deletions: list[Deletion]


class DeletionsAnswer(BaseModel):
    """A page of deletions, newest first."""

    deletions: list[Deletion]
    next_cursor: str | None = Field(description="Pass this as `cursor` to get the next page; null on the last page.")


class ClusterAnswer(BaseModel):
    """One prompt cluster."""

    key: str
    rows: int
    anchors: int
    specialist: bool = Field(description="Whether it has a prompt of its own.")
    state: ClusterState = Field(description="Clusters too small for a prompt are served by the shared head.")


class ClustersAnswer(BaseModel):
    """A page of the prompt clusters of the newest commit, largest first."""

    commit: int
    clusters: list[ClusterAnswer]
    next_cursor: str | None = Field(description="Pass this as `cursor` to get the next page; null on the last page.")


class CommitAnswer(BaseModel):
    """The newest commit."""

    number: int
    root: str = Field(description="The state root, in hexadecimal.")
    rows: int
    clusters: int
    specialists: int


class HealthAnswer(BaseModel):
    """The process is running."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(BaseModel):
    """The replica can answer predictions."""

    status: Literal["ready"] = "ready"
    commit: int
