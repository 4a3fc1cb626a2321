"""What a check finds, and how it writes sizes, ages and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["error", "warning", "note"]

MIGRATE = "ingestd migrate -c FILE"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `error`: data is or will be lost, refused or wrong. `warning`: it will become slow, large or wrong unless somebody
    acts. `note`: a figure. `remedy`: SQL statements or commands, as one types them.
    """

    level: Level
    subject: str
    message: str
    remedy: str


def size(count: float) -> str:
    """A number of bytes for people: `1.5 GiB`."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def age(span: timedelta) -> str:
    """A length of time for people, in its largest unit: `3.0 days`."""
    seconds = span.total_seconds()
    for unit, length_s in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def interval(span: timedelta) -> str:
    """A length of time as PostgreSQL reads it: `3 days`, `1 days 12:00:00`."""
    days, rest = divmod(span, _DAY)
    hours, minutes = divmod(int(rest.total_seconds()) // 60, 60)
    clock = f"{hours:02}:{minutes:02}:{int(rest.total_seconds()) % 60:02}"
    return f"{days} days" if not rest else f"{days} days {clock}" if days else clock
