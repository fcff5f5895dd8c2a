"""What the client returns, read from the service's JSON. Unknown fields from newer services are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from lmeraser.deletion import Deletion, Preview
from lmeraser.proof.outcomes import Outcome
from lmeraser.state.cluster_entry import ClusterState


@dataclass(frozen=True)
class Prediction:
    """The service's answer for one image.

    Attributes:
        label: the most probable label.
        probabilities: the five most probable labels, most probable first.
        cluster: key of the image's prompt cluster; None when it has none.
        route: "specialist" when the cluster's prompt was used for the answer; "skipped" when the cluster has a prompt
            that was not used, because the shared head was confident enough or is the better head; else "shared".
        commit: number of the commit that the answer comes from.
    """

    label: str
    probabilities: Mapping[str, float]
    cluster: str | None
    route: Literal["specialist", "shared", "skipped"]
    commit: int


@dataclass(frozen=True)
class FailedImage:
    """Takes the place of a prediction when one image among several could not be used."""

    title: str
    detail: str


@dataclass(frozen=True)
class Cluster:
    """One prompt cluster.

    Attributes:
        key: its name.
        rows: how many rows it holds.
        anchors: how many anchors it covers.
        specialist: whether it has a prompt of its own.
        state: "tuned" when it has one; "awaits tuning"; or "too small" for one, so that the shared head serves it for
            good.
    """

    key: str
    rows: int
    anchors: int
    specialist: bool
    state: ClusterState


@dataclass(frozen=True)
class CommitSummary:
    """The newest commit.

    Attributes:
        number: number of its log record.
        root: the state root, in hexadecimal.
        rows: how many rows the system holds.
        clusters: how many prompt clusters there are.
        specialists: how many of them have a prompt of their own.
    """

    number: int
    root: str
    rows: int
    clusters: int
    specialists: int


@dataclass(frozen=True)
class Receipt:
    """The signed statement that rows were erased. ``content`` is the signed JSON object with its signature."""

    content: Mapping[str, Any]

    def verify(self, public_key_pem: bytes) -> None:
        """Check the signature and the Merkle paths, offline.

        Args:
            public_key_pem: the store's public signing key, ``signing-key.pub.pem``.

        Raises:
            KeysError: when the key is not an Ed25519 public key in PEM.
            ReceiptError: when the signature or a Merkle path is wrong.
        """
        # Loaded here, so that a client that verifies no receipts needs no cryptography.
        from lmeraser.proof.receipts import verify_receipt
        from lmeraser.state.keys import parse_public_pem

        verify_receipt(self.content, parse_public_pem(public_key_pem))


def prediction_of(value: Mapping[str, Any]) -> Prediction | FailedImage:
    """From the service's JSON."""
    if "error" in value:
        return FailedImage(value["error"]["title"], value["error"]["detail"])
    return Prediction(**_known(Prediction, value))


def deletion_of(value: Mapping[str, Any]) -> Deletion:
    """From the service's JSON."""
    lists = {name: tuple(value.get(name, ())) for name in ("unknown_ids", "clusters")}
    return Deletion(**{**_known(Deletion, value), **lists})


def preview_from(value: Mapping[str, Any]) -> Preview:
    """From the service's JSON."""
    lists = {name: tuple(value.get(name, ())) for name in ("unknown_ids", "clusters")}
    sample_ids = None if value.get("sample_ids") is None else tuple(value["sample_ids"])
    return Preview(**{**_known(Preview, value), **lists, "sample_ids": sample_ids})


def outcome_from(value: Mapping[str, Any]) -> Outcome:
    """From the service's JSON."""
    return Outcome(**_known(Outcome, value))


def cluster_of(value: Mapping[str, Any]) -> Cluster:
    """From the service's JSON."""
    return Cluster(**_known(Cluster, value))


def commit_of(value: Mapping[str, Any]) -> CommitSummary:
    """From the service's JSON."""
    return CommitSummary(**_known(CommitSummary, value))


def _known(kind: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: value[field.name] for field in fields(kind) if field.name in value}
