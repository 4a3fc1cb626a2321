"""Quarantine of streams that the venue refuses. Pure: the caller passes the time.

One rule for every subscription: three refusals in a row quarantine a stream for at most an hour. Any data from the
stream lifts the quarantine at once, because it shows that the refusals were about another stream.
"""

from __future__ import annotations

import structlog

from ingestd.status import StreamStatus

log = structlog.get_logger()

REFUSALS_TO_QUARANTINE = 3
RETRY_S = 5.0  # after the first two refusals
QUARANTINE_S = 3600.0
SHORT_QUARANTINE_S = 60.0


class Quarantine:
    """The refusals and the quarantine of one stream, or of several streams that are subscribed to together.

    `received`, in each method, is the number of records that these streams have delivered so far.
    """

    def __init__(self) -> None:
        self.refusals = 0  # in a row
        self._received = 0
        self._began_s = 0.0
        self._lasts_s = 0.0
        self._times = 0  # quarantines in a row, without a delivery between them

    def refused(self, received: int, now_s: float) -> bool:
        """Count a refusal. Return whether to quarantine the stream (`begin`); if not, retry after `RETRY_S`."""
        if self.has_delivered(received):
            self.clear()
        self.refusals += 1
        self._received, self._began_s, self._lasts_s = received, now_s, RETRY_S
        return self.refusals >= REFUSALS_TO_QUARANTINE

    def begin(self, now_s: float, *, nothing_delivers: bool = False) -> None:
        """Quarantine for an hour, or for a minute if `nothing_delivers` on the socket: the venue itself may be down."""
        self._began_s, self._lasts_s = now_s, SHORT_QUARANTINE_S if nothing_delivers else QUARANTINE_S
        self._times += 1

    def socket_lost(self) -> None:
        """Shorten the quarantine to a minute from its start: the venue may accept the stream on the next socket.

        The venue may also have closed the socket because of the refused request, so the minute doubles with each
        further quarantine before the stream delivers.
        """
        doublings = min(max(0, self._times - 1), 10)
        self._lasts_s = min(self._lasts_s, SHORT_QUARANTINE_S * 2**doublings)

    def left_s(self, received: int, now_s: float) -> float:
        """Seconds until the stream may be subscribed to again; 0 if it has delivered since the last refusal."""
        return 0.0 if self.has_delivered(received) else max(0.0, self._began_s + self._lasts_s - now_s)

    def has_delivered(self, received: int) -> bool:
        """Whether a record has arrived since the last refusal."""
        return received != self._received

    def clear(self) -> None:
        """Forget the refusals and quarantines so far: the next refusal counts as the first."""
        self.refusals = self._times = 0
        self._lasts_s = 0.0


def show_quarantined(stream: StreamStatus, reason: str, feed: str) -> None:
    """Show in the stream's status and in the log why it is quarantined. Its next record clears the status."""
    stream.quarantined = reason[:300]
    log.warning("quarantined", feed=feed, channel=stream.channel, symbol=stream.symbol, error=stream.quarantined)
