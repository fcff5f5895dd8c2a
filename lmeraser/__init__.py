"""Machine unlearning as a running service. These are the public names: the client, what it returns, and all errors.

Everything else is internal and may change. The client is loaded when it is first named, because actors import this
package and need no HTTP.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmeraser.deletion import Deletion, Preview
from lmeraser.errors import (
    AuthenticationError,
    BackboneError,
    ConfigError,
    DataError,
    DecidedError,
    DuplicateSampleError,
    FencedError,
    FingerprintError,
    IdempotencyConflictError,
    KeysError,
    LMEraserError,
    LogError,
    LostRaceError,
    MissingExtraError,
    NotReadyError,
    ObjectCorruptError,
    ObjectMissingError,
    OverloadedError,
    OwnerFailedError,
    PermissionDeniedError,
    RateLimitError,
    ReceiptError,
    RequestError,
    SelfApprovalError,
    ServiceError,
    ServiceUnavailableError,
    StalePreviewError,
    StoreError,
    StoreFormatError,
    TuningCancelledError,
    UndecodableImageError,
    UnfinishedRestoreError,
    UnknownDeletionError,
    UnknownLabelError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from lmeraser.client.async_client import AsyncClient
    from lmeraser.client.client import Client
    from lmeraser.client.encoding import ImageLike
    from lmeraser.client.responses import Cluster, CommitSummary, FailedImage, Prediction, Receipt
    from lmeraser.paging import Page
    from lmeraser.proof.outcomes import Outcome

    __version__: str

__all__ = [
    "AsyncClient",
    "AuthenticationError",
    "BackboneError",
    "Client",
    "Cluster",
    "CommitSummary",
    "ConfigError",
    "DataError",
    "DecidedError",
    "Deletion",
    "DuplicateSampleError",
    "FailedImage",
    "FencedError",
    "FingerprintError",
    "IdempotencyConflictError",
    "ImageLike",
    "KeysError",
    "LMEraserError",
    "LogError",
    "LostRaceError",
    "MissingExtraError",
    "NotReadyError",
    "ObjectCorruptError",
    "ObjectMissingError",
    "Outcome",
    "OverloadedError",
    "OwnerFailedError",
    "Page",
    "PermissionDeniedError",
    "Prediction",
    "Preview",
    "RateLimitError",
    "Receipt",
    "ReceiptError",
    "RequestError",
    "SelfApprovalError",
    "ServiceError",
    "ServiceUnavailableError",
    "StalePreviewError",
    "StoreError",
    "StoreFormatError",
    "TuningCancelledError",
    "UndecodableImageError",
    "UnfinishedRestoreError",
    "UnknownDeletionError",
    "UnknownLabelError",
    "WaitTimeoutError",
    "__version__",
]

_MODULES = {
    "AsyncClient": "lmeraser.client.async_client",
    "Client": "lmeraser.client.client",
    "Cluster": "lmeraser.client.responses",
    "CommitSummary": "lmeraser.client.responses",
    "FailedImage": "lmeraser.client.responses",
    "ImageLike": "lmeraser.client.encoding",
    "Outcome": "lmeraser.proof.outcomes",
    "Page": "lmeraser.paging",
    "Prediction": "lmeraser.client.responses",
    "Receipt": "lmeraser.client.responses",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lmeraser")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
