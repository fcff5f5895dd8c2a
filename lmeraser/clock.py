"""Times as they are written down: ISO 8601 in UTC, with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc_now() -> str:
    """The time now."""
    return timestamp(datetime.now(UTC))


def hours_ago(hours: float) -> str:
    """The time so many hours before now."""
    return timestamp(datetime.now(UTC) - timedelta(hours=hours))


def timestamp(moment: datetime) -> str:
    """This moment, which has an offset, in UTC.

    Raises:
        OverflowError: when it is outside the years 1 to 9999 in UTC.
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
