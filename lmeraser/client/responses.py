"""What the client returns, read from the service's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from lmeraser.deletion import Deletion


@dataclass(frozen=True)
class Prediction:
    """What the service says about one image.

    Attributes:
        label: the most probable label.
        probabilities: the five most probable labels, most probable first.
        cluster: key of the prompt cluster that the image falls to; None where there is none.
        route: "specialist" when the cluster's prompt had a part in the answer; "skipped" when it has one, but the
            shared head was sure without it or is the better head; else "shared".
        commit: number of the commit that answered.
    """

    label: str
    probabilities: Mapping[str, float]
    cluster: str | None
    route: Literal["specialist", "shared", "skipped"]
    commit: int


@dataclass(frozen=True)
class FailedImage:
    """Stands in the place of a prediction where one image among several could not be used."""

    title: str
    detail: str


@dataclass(frozen=True)
class Cluster:
    """One prompt cluster.

    Attributes:
        key: its name.
        rows: how many rows it holds.
        anchors: how many anchors it covers.
        specialist: whether it answers with a prompt of its own.
    """

    key: str
    rows: int
    anchors: int
    specialist: bool


@dataclass(frozen=True)
class Receipt:
    """The signed statement that rows were erased. ``content`` is what was signed, with its signature."""

    content: Mapping[str, Any]

    def verify(self, public_key_pem: bytes) -> None:
        """Check the signature and the Merkle paths, offline.

        Raises:
            KeysError: when the key is not an Ed25519 public key in PEM.
            ReceiptError: when the signature or a path does not hold.
        """
        # A client that verifies no receipts does not load the libraries behind the state.
        from lmeraser.proof.receipts import verify_receipt
        from lmeraser.state.keys import parse_public_pem

        verify_receipt(self.content, parse_public_pem(public_key_pem))


def prediction_of(value: Mapping[str, Any]) -> Prediction | FailedImage:
    """From the service's JSON; fields that only a newer service knows are passed over."""
    if "error" in value:
        return FailedImage(value["error"]["title"], value["error"]["detail"])
    return Prediction(**_known(Prediction, value))


def deletion_of(value: Mapping[str, Any]) -> Deletion:
    """From the service's JSON."""
    lists = {name: tuple(value.get(name, ())) for name in ("unknown_ids", "clusters")}
    return Deletion(**{**_known(Deletion, value), **lists})


def cluster_of(value: Mapping[str, Any]) -> Cluster:
    """From the service's JSON."""
    return Cluster(**_known(Cluster, value))


def _known(kind: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: value[item.name] for item in fields(kind) if item.name in value}
