"""Times as they are written down: ISO 8601 in UTC, with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> str:
    """The time now."""
    return timestamp(datetime.now(UTC))


def timestamp(moment: datetime) -> str:
    """This moment, which has an offset, in UTC.

    Raises:
        OverflowError: when it is outside the years 1 to 9999 in UTC.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
