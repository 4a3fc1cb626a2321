"""Parses the times that commands accept: `2h` (ago), or an ISO 8601 time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

HOW = "write 30m, 2h or 7d (ago), or a time (UTC) such as 2026-01-31T12:00"

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str) -> datetime:
    """Parse a time. Without a zone it is UTC; relative times are rounded down to seconds. Raises ValueError."""
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text)
    try:
        if ago is not None:
            return datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=int(ago[1]) * UNITS_S[ago[2]])
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error
