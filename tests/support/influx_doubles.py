"""A server of line protocol in memory, which refuses what it is told to, as InfluxDB 1 does."""

from __future__ import annotations

from collections.abc import Callable

from ingestd.channels import count_channels
from ingestd.errors import PointsRefused
from ingestd.journal.journal import Batch
from ingestd.records import Record

Why = Callable[[str], str | None]


class PartialServer:
    """Stores the lines of a request but those for which `why` has a reason. `counts_dropped`: it says how many it has
    left out, as InfluxDB does; else it stores nothing of a request that has such a line, as QuestDB does."""

    def __init__(self, why: Why = lambda _: None, *, counts_dropped: bool = True) -> None:
        self.why = why
        self.counts_dropped = counts_dropped
        self.points: dict[str, str] = {}  # fields, by series and time
        self.requests = 0
        self.trouble: Exception | None = None

    async def write(self, body: bytes) -> None:
        self.requests += 1
        if self.trouble is not None:
            raise self.trouble
        lines = body.decode().splitlines()
        refused = {line: reason for line in lines if (reason := self.why(line)) is not None}
        if not refused or self.counts_dropped:
            for line in lines:
                if line not in refused:
                    series, fields, time_ns = line.split(" ")
                    self.points[f"{series} {time_ns}"] = fields
        if refused:
            said = next(iter(refused.values()))
            dropped = None
            if self.counts_dropped:
                dropped = len(refused)
                said = f"partial write: {said} dropped={dropped}"
            raise PointsRefused(f"HTTP 400: {said}", status=400, said=said, dropped=dropped)


def batch_of(records: list[Record], position: int = 1, journal_id: str = "ab") -> Batch:
    """A journaled batch."""
    return Batch(journal_id, position, 0, count_channels(records), records, 0, 1)
