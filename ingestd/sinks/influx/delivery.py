"""Writes the points of one flush, and finds those that the server refuses.

A server that refuses some points of a request says how many and why, but not which. Writing a point again changes
nothing, so the request is halved until every point is stored or refused by itself. What is known outlives a failed
attempt: the next one goes on where it ended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from ingestd.errors import PointsRefused
from ingestd.sinks.influx.points import REASON_PREFIX, Flush, Point, Refusal

_Chunk: TypeAlias = Sequence[Point]  # of one measurement

# Why a server refuses a point for what it holds: a short fixed reason, and how the server's words are told. Any other
# refusal is of the request or of the server, so the points are written again until they are taken.
_REASONS = {
    "older_than_retention": re.compile(r"beyond retention policy|outside retention", re.IGNORECASE),
    "time": re.compile(r"time outside range", re.IGNORECASE),
    "field_type": re.compile(r"field type conflict|cast error|type mismatch", re.IGNORECASE),
    "unreadable": re.compile(r"unable to parse|failed to parse line protocol|could not parse", re.IGNORECASE),
}
_TOO_LARGE = 413
# The fault may be the measurement's: then none of its points is taken, and somebody has to change it.
_MAY_BE_OF_ALL = frozenset({"field_type", "unreadable", "too_large"})


class Server(Protocol):
    """The part of a server that a delivery uses; see `server.InfluxServer`."""

    async def write(self, body: bytes) -> None: ...


class Delivery:
    """The delivery of one flush. `taken` are the measurements of which the server has stored a point since the start;
    the caller keeps it."""

    def __init__(self, flush: Flush, taken: set[str]) -> None:
        self.refusals = list(flush.refusals)
        self._left: list[_Chunk] = [points for points in flush.points.values() if points]
        self._doubtful: list[tuple[_Chunk, str, PointsRefused]] = []  # refused, and maybe by the measurement's fault
        self._taken = taken

    async def write(self, server: Server) -> None:
        """Write what is left. Returns when every point is stored, or is in `refusals`.

        Raises what the server raises; PointsRefused, if it refuses all points of a measurement, or refuses some for a
        reason that is not theirs.
        """
        self._left += [chunk for chunk, _, _ in self._doubtful]
        self._doubtful.clear()
        while self._left:
            chunk = self._left[-1]
            try:
                await server.write(b"".join([f"{point.line}\n".encode() for point in chunk]))
            except PointsRefused as error:
                self._divide(chunk, error)
            else:
                self._left.pop()
                self._taken.add(chunk[0].measurement)
        self._judge()

    @property
    def waiting(self) -> int:
        """The number of points neither stored nor refused."""
        return sum(map(len, self._left)) + sum(len(chunk) for chunk, _, _ in self._doubtful)

    def _divide(self, chunk: _Chunk, error: PointsRefused) -> None:
        """Halve a chunk that is not wholly taken; one that is wholly refused is done with."""
        reason = _reason_of(error)
        if reason is None:
            raise error
        if len(chunk) > 1 and error.dropped != len(chunk):
            middle = len(chunk) // 2
            self._left[-1:] = [chunk[middle:], chunk[:middle]]
            return
        self._left.pop()
        if reason in _MAY_BE_OF_ALL:
            self._doubtful.append((chunk, reason, error))
        else:
            self._refuse(chunk, reason, error)

    def _judge(self) -> None:
        """Put doubtful points aside if others of their measurement were taken. Raises PointsRefused if none was."""
        still = []
        for chunk, reason, error in self._doubtful:
            if chunk[0].measurement in self._taken:
                self._refuse(chunk, reason, error)
            else:
                still.append((chunk, reason, error))
        self._doubtful = still
        if still:
            raise still[0][2]

    def _refuse(self, chunk: _Chunk, reason: str, error: PointsRefused) -> None:
        self.refusals += [Refusal(point.record, REASON_PREFIX + reason, error.said) for point in chunk]


def _reason_of(error: PointsRefused) -> str | None:
    if error.status == _TOO_LARGE:
        return "too_large"
    return next((reason for reason, words in _REASONS.items() if words.search(error.said)), None)
