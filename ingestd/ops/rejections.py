"""Streams of which every record is put aside: they look alive, and nothing of them is stored."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ingestd.clock import monotonic_s
from ingestd.log_limit import LogLimit
from ingestd.ops.metrics import Metrics
from ingestd.records import StreamId

log = structlog.get_logger()

_IN_A_ROW = 3  # so many records put aside in a row: the stream is reported
_TOLD_S = 3600.0  # so long after its last record, since it may have ended
_STREAMS_KEPT = 10_000  # beyond them the least recent is forgotten, since any program may publish under any name


class Rejections:
    """The streams whose last record was put aside, and how many in a row. False while there is none."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._runs: dict[StreamId, tuple[int, str, float]] = {}  # how many, why the last one, and when
        self._told: dict[StreamId, None] = {}
        self._log_limit = LogLimit()

    def __bool__(self) -> bool:
        return bool(self._runs)

    def all(self) -> dict[StreamId, str]:
        """The streams of which the last records were all put aside, and the reason of the last one."""
        since_s = monotonic_s() - _TOLD_S
        for stream in [stream for stream in self._told if self._runs[stream][2] <= since_s]:
            self._forget(stream)
        return {stream: self._runs[stream][1] for stream in self._told}

    def reject(self, stream: StreamId, reason: str) -> None:
        """A record of this stream was put aside."""
        count = self._runs.pop(stream, (0, "", 0.0))[0] + 1
        self._runs[stream] = count, reason, monotonic_s()
        if len(self._runs) > _STREAMS_KEPT:
            self._forget(next(iter(self._runs)))
        if count == _IN_A_ROW:
            self._told[stream] = None
            self._show()
            if self._is_logged(f"{stream} rejected"):
                log.error("stream_rejected", exchange=stream[0], channel=stream[1], symbol=stream[2], reason=reason)

    def end(self, stream: StreamId) -> None:
        """A record of this stream was not put aside."""
        if stream not in self._runs:
            return
        was_told = stream in self._told
        self._forget(stream)
        if was_told and self._is_logged(f"{stream} accepted"):
            log.info("stream_accepted_again", exchange=stream[0], channel=stream[1], symbol=stream[2])

    def keep(self, is_wanted: Callable[[StreamId], bool]) -> None:
        """Forget the streams that are not wanted any more."""
        for stream in [stream for stream in self._runs if not is_wanted(stream)]:
            self._forget(stream)

    def _forget(self, stream: StreamId) -> None:
        del self._runs[stream]
        if stream in self._told:
            del self._told[stream]
            self._show()

    def _show(self) -> None:
        self._metrics.streams_rejected.set(len(self._told))

    def _is_logged(self, what: str) -> bool:
        held_back = self._log_limit.held_back
        if not self._log_limit.allows(what):
            return False
        if held_back:
            log.error("streams_rejected_untold", lines=held_back, streams=len(self._told))
        return True
