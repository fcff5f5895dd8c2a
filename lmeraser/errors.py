"""Every exception that this project raises on purpose.

LMEraserError
├── ConfigError
├── DataError
│   ├── DuplicateSampleError
│   ├── UndecodableImageError
│   └── UnknownLabelError
├── MissingExtraError
├── BackboneError
├── KeysError
├── StoreError
│   ├── ObjectMissingError
│   ├── ObjectCorruptError
│   ├── LostRaceError
│   ├── StoreFormatError
│   ├── UnfinishedRestoreError
│   └── FingerprintError
├── LogError
│   └── FencedError
├── ReceiptError
├── RequestError
│   ├── IdempotencyConflictError
│   ├── DecidedError
│   ├── RateLimitError
│   ├── SelfApprovalError
│   ├── StalePreviewError
│   └── UnknownDeletionError
├── NotReadyError
├── OverloadedError
├── TuningCancelledError
├── OwnerFailedError
└── ServiceError
    ├── AuthenticationError
    ├── PermissionDeniedError
    ├── ServiceUnavailableError
    └── WaitTimeoutError
"""

from __future__ import annotations


class LMEraserError(Exception):
    """Root of all errors that are raised on purpose; the command line prints them without a traceback."""


class ConfigError(LMEraserError):
    """Raised when a configuration file or option holds a value that is not allowed."""


class DataError(LMEraserError):
    """Raised when a data source cannot be read or has rows that cannot be used."""


class DuplicateSampleError(DataError):
    """Raised when two rows have the same sample id."""


class UndecodableImageError(DataError):
    """Raised when images cannot be decoded; the message names their rows."""


class UnknownLabelError(DataError):
    """Raised when a row's label is not in the declared list."""


class MissingExtraError(LMEraserError):
    """Raised when something needs packages of an extra that is not installed; the message names the extra."""


class BackboneError(LMEraserError):
    """Raised when a backbone is unknown, cannot be loaded, or cannot take the requested prompt."""


class KeysError(LMEraserError):
    """Raised when a key or the file that holds it is missing, malformed, or readable by others."""


class StoreError(LMEraserError):
    """Raised when the store cannot be read or written."""


class ObjectMissingError(StoreError):
    """Raised when an object that should exist does not."""


class ObjectCorruptError(StoreError):
    """Raised when an object's content does not have the expected digest."""


class LostRaceError(StoreError):
    """Raised when another writer has already written an object that was to be written only if absent."""


class StoreFormatError(StoreError):
    """Raised when a store was written by another format version, or is not a store."""


class UnfinishedRestoreError(StoreError):
    """Raised when a copy of a store is still being restored, so that nothing may read from it yet."""


class FingerprintError(StoreError):
    """Raised when the numerics of this process differ from those that the store was created with."""


class LogError(LMEraserError):
    """Raised when the log's chain is broken: a record is changed, missing or out of order."""


class FencedError(LogError):
    """Raised when a coordinator finds that a newer one has taken over its store."""


class ReceiptError(LMEraserError):
    """Raised when a receipt is malformed, or its signature or a proof in it is not valid."""


class RequestError(LMEraserError):
    """Raised when an ingest or a deletion cannot be accepted, or the client is called with an invalid argument."""


class IdempotencyConflictError(RequestError):
    """Raised when an idempotency key is used again for a different request."""


class DecidedError(RequestError):
    """Raised when a deletion that is to be approved or declined was decided already, or needs no approval."""


class RateLimitError(RequestError):
    """Raised when deletions name unknown ids faster than is allowed."""


class SelfApprovalError(RequestError):
    """Raised when a deletion is to be approved by whoever requested it."""


class StalePreviewError(RequestError):
    """Raised when something was committed since the preview that a deletion names; nothing is begun then."""


class UnknownDeletionError(RequestError):
    """Raised when no deletion has the requested id."""


class NotReadyError(LMEraserError):
    """Raised when there is nothing to answer from: no rows, or no current commit in time."""


class OverloadedError(LMEraserError):
    """Raised when a replica already has as many requests as it accepts."""


class TuningCancelledError(LMEraserError):
    """Raised inside a tuning that a newer change has made pointless."""


class OwnerFailedError(LMEraserError):
    """Raised when an owner dies, or fails with an unexpected error such as a GPU that is out of memory."""


class ServiceError(LMEraserError):
    """Raised when the service refuses a call.

    Attributes:
        status: HTTP status, or 0 if there was no answer.
        request_id: the id to quote to the operator; None if there is none.
    """

    def __init__(self, message: str, *, status: int = 0, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class AuthenticationError(ServiceError):
    """Raised when the service requires an API key and got none, or one that is unknown or revoked (401)."""


class PermissionDeniedError(ServiceError):
    """Raised when the API key lacks the scope that a call needs (403)."""


class ServiceUnavailableError(ServiceError):
    """Raised when the service cannot be reached or cannot answer now (no connection, 408, 429, 502, 503, 504)."""


class WaitTimeoutError(ServiceError):
    """Raised when a deletion has not reached the awaited status in time."""
