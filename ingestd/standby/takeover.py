"""Writes the gaps between the last leader's end and this one's start to the gap ledger.

A gap begins at the newest stored row of its stream, and ends when the stream first delivers here. The old leader's
journal may hold records of the gap; if that daemon comes back, it stores them itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ingestd.clock import iso_text, monotonic_s, now_us
from ingestd.errors import IngestdError
from ingestd.feeds.base import Feed, Intake
from ingestd.gaps.causes import TAKEOVER
from ingestd.gaps.tracker import GapTracker, StreamKey
from ingestd.retry import Backoff
from ingestd.standby.last_stored import last_stored
from ingestd.status import FeedStatus, StreamStatus
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.lease_terms import Term

log = structlog.get_logger()

_LOOK_EVERY_S = 0.5
_SETTLED_AFTER_S = 60.0


class TakeoverGaps:
    """Opens a gap for every stream of every feed, and ends it when the stream delivers."""

    def __init__(self, access: DatabaseAccess, feeds: Sequence[Feed], intake: Intake, before: Term) -> None:
        self._access = access
        self._feeds = feeds
        self._intake = intake
        self._before = before
        self._trackers: dict[str, GapTracker] = {}
        self._known: set[tuple[str, StreamKey]] = set()

    async def run(self) -> None:
        """Run until every stream has delivered, or cancelled. A feed lists its streams one by one as it subscribes."""
        begun_s = monotonic_s()
        backoff = Backoff(base_s=_LOOK_EVERY_S, cap_s=15.0)
        while True:
            statuses = [status for status in (feed.status() for feed in self._feeds) if status.streams]
            try:
                for status in statuses:
                    await self._open(status)
                backoff.settled()
            except (IngestdError, OSError, TimeoutError) as error:
                delay_s = backoff.next_s()
                if backoff.is_logged(error):
                    log.warning("takeover_gaps_wait", error=str(error), attempts=backoff.attempts)
                await asyncio.sleep(delay_s)
                continue
            for status in statuses:
                self._end(status)
            settled = monotonic_s() - begun_s > _SETTLED_AFTER_S
            if settled and not any(tracker.open for tracker in self._trackers.values()):
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _open(self, status: FeedStatus) -> None:
        served = [stream for stream in status.streams if stream.quarantined is None]
        fresh = [stream for stream in served if (status.label, _key(stream)) not in self._known]
        if not fresh:
            return
        since = await self._stored_until(status.label, fresh)
        tracker = self._trackers.setdefault(status.label, GapTracker(status.label))
        detail = f"after {self._before.holder}, last heard of at {iso_text(self._before.renewed_at)}"
        for gap in tracker.interrupted(since, at=now_us(), cause=TAKEOVER, detail=detail):
            self._intake.put(gap)
        self._known.update((status.label, _key(stream)) for stream in fresh)
        log.info("takeover_gaps", exchange=status.label, streams=len(since))

    async def _stored_until(self, exchange: str, streams: Sequence[StreamStatus]) -> list[StreamStatus]:
        """The streams, each with the time of its newest stored row, or else of the old leader's last renewal."""
        found = []
        database = await self._access.connect_bounded()
        try:
            for channel in sorted({stream.channel for stream in streams}):
                symbols = [stream.symbol for stream in streams if stream.channel == channel]
                last = await last_stored(database, exchange, channel, symbols, self._before.expires_at)
                for symbol in symbols:
                    at = last.get(symbol, self._before.renewed_at)
                    found.append(StreamStatus(channel, symbol, last_received_at=at))
        finally:
            await database.close()
        return found

    def _end(self, status: FeedStatus) -> None:
        tracker = self._trackers.get(status.label)
        for stream in status.streams if tracker is not None and tracker.open else ():
            if tracker is not None and stream.last_received_at is not None:
                gap = tracker.delivered(stream, at=stream.last_received_at)
                if gap is not None:
                    self._intake.put(gap)


def _key(stream: StreamStatus) -> StreamKey:
    return stream.channel, stream.symbol
