"""Streams of which every record is put aside: they look alive, and nothing of them is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from ingestd.clock import monotonic_s
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord, StreamId, stream_of

log = structlog.get_logger()

_IN_A_ROW = 3  # records of one stream: then it is said that all of them are
_TOLD_S = 3600.0  # after its last record, so that a stream that ended is not told of for ever
_STREAMS_KEPT = 10_000  # any program may publish under any name


class Rejections:
    """Counts in a row, of the streams whose last record was put aside. False while there is none."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._runs: dict[StreamId, tuple[int, str, float]] = {}  # how many, why the last one, and when

    def __bool__(self) -> bool:
        return bool(self._runs)

    def all(self) -> dict[StreamId, str]:
        """The streams of which the last records were all put aside, and the reason of the last one."""
        since_s = monotonic_s() - _TOLD_S
        return {s: reason for s, (count, reason, at_s) in self._runs.items() if count >= _IN_A_ROW and at_s > since_s}

    def reject(self, stream: StreamId, reason: str) -> None:
        """One record more of it was put aside."""
        if stream not in self._runs and len(self._runs) >= _STREAMS_KEPT:
            return
        count = self._runs.get(stream, (0, "", 0.0))[0] + 1
        self._runs[stream] = count, reason, monotonic_s()
        if count == _IN_A_ROW:
            self._show()
            log.error("stream_rejected", exchange=stream[0], channel=stream[1], symbol=stream[2], reason=reason)

    def accept(self, records: Iterable[MarketRecord]) -> None:
        """These were not."""
        for record in records:
            self.end(stream_of(record))

    def end(self, stream: StreamId) -> None:
        """A record of it was not put aside."""
        run = self._runs.pop(stream, None)
        if run is not None and run[0] >= _IN_A_ROW:
            self._show()
            log.info("stream_accepted_again", exchange=stream[0], channel=stream[1], symbol=stream[2])

    def keep(self, is_wanted: Callable[[StreamId], bool]) -> None:
        """Forget the streams that nobody follows any more."""
        gone = [stream for stream in self._runs if not is_wanted(stream)]
        for stream in gone:
            del self._runs[stream]
        if gone:
            self._show()

    def _show(self) -> None:
        self._metrics.streams_rejected.set(len(self.all()))
