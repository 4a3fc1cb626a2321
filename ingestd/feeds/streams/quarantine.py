"""When a stream is no longer asked for because the venue refuses it. Pure: the caller has the clock.

The rule is the same for everything that is asked for: the third refusal in a row quarantines a stream for an hour.
If the stream delivers, the quarantine is over at once: the refusals were about another stream.
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
    """Refusals of one stream, or of several that are asked for together, and how long they are not asked for.

    `received` is how many records they have brought so far.
    """

    def __init__(self) -> None:
        self.refusals = 0  # in a row
        self._received = 0
        self._began_s = 0.0
        self._lasts_s = 0.0
        self._times = 0  # it has begun without a delivery in between

    def refused(self, received: int, now_s: float) -> bool:
        """Count a refusal. False: ask again in `RETRY_S`. True: it has been refused often enough to `begin`."""
        if self.has_delivered(received):
            self.clear()
        self.refusals += 1
        self._received, self._began_s, self._lasts_s = received, now_s, RETRY_S
        return self.refusals >= REFUSALS_TO_QUARANTINE

    def begin(self, now_s: float, *, nothing_delivers: bool = False) -> None:
        """Do not ask for an hour, or for a minute if `nothing_delivers` on its socket: the venue itself may be down."""
        self._began_s, self._lasts_s = now_s, SHORT_QUARANTINE_S if nothing_delivers else QUARANTINE_S
        self._times += 1

    def socket_lost(self) -> None:
        """Shorten it to a minute after its begin, since the venue may answer otherwise on the next socket.

        It may also have closed the socket because of the refused request: so two minutes the next time, then four …
        """
        doublings = min(max(0, self._times - 1), 10)
        self._lasts_s = min(self._lasts_s, SHORT_QUARANTINE_S * 2**doublings)

    def left_s(self, received: int, now_s: float) -> float:
        """The seconds until it may be asked for again; 0 at once when it has delivered since it was refused."""
        return 0.0 if self.has_delivered(received) else max(0.0, self._began_s + self._lasts_s - now_s)

    def has_delivered(self, received: int) -> bool:
        """Whether a record has come since it was refused."""
        return received != self._received

    def clear(self) -> None:
        """It is not refused after all: the next refusal is the first."""
        self.refusals = self._times = 0
        self._lasts_s = 0.0


def show_quarantined(stream: StreamStatus, reason: str, feed: str) -> None:
    """Say in the status of a stream and in the log why it is not asked for. Its next record clears the status."""
    stream.quarantined = reason[:300]
    log.warning("quarantined", feed=feed, channel=stream.channel, symbol=stream.symbol, error=stream.quarantined)
