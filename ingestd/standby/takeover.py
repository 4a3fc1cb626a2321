"""Writes the gaps between the last leader's end and this one's start to the gap ledger.

A gap begins at the newest stored row of its stream, and ends when the stream first delivers here. The old leader's
journal may hold records of the gap; if that daemon comes back, it stores them itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ingestd.channels import ROW_OF
from ingestd.clock import MICROSECONDS_PER_DAY, from_datetime, iso_text, monotonic_s, now_us, to_datetime
from ingestd.errors import IngestdError
from ingestd.feeds.base import Feed, Intake
from ingestd.gaps.causes import TAKEOVER
from ingestd.gaps.tracker import GapTracker, StreamKey
from ingestd.retry import Backoff
from ingestd.status import FeedStatus, StreamStatus
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.leases import Term

log = structlog.get_logger()

_LOOK_EVERY_S = 0.5
_SETTLED_AFTER_S = 60.0
_LOOK_BACK_US = 2 * MICROSECONDS_PER_DAY  # limits the search, and so the chunks it opens


class TakeoverGaps:
    """Opens a gap for each stream of each feed, and ends it when that delivers. `before`: the old leader's term."""

    def __init__(self, access: DatabaseAccess, feeds: Sequence[Feed], intake: Intake, before: Term) -> None:
        self._access = access
        self._feeds = feeds
        self._intake = intake
        self._before = before
        self._trackers: dict[str, GapTracker] = {}
        self._known: set[tuple[str, StreamKey]] = set()

    async def run(self) -> None:
        """Run until every stream has delivered, at least a minute: a feed lists its streams only as it subscribes."""
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
        fresh = [stream for stream in served if (status.label, stream.key) not in self._known]
        if not fresh:
            return
        since = await self._stored_until(status.label, fresh)
        tracker = self._trackers.setdefault(status.label, GapTracker(status.label))
        detail = f"after {self._before.holder}, last heard of at {iso_text(self._before.renewed_at)}"
        for gap in tracker.interrupted(since, at=now_us(), cause=TAKEOVER, detail=detail):
            self._intake.put(gap)
        self._known.update((status.label, stream.key) for stream in fresh)
        log.info("takeover_gaps", exchange=status.label, streams=len(since))

    async def _stored_until(self, exchange: str, streams: Sequence[StreamStatus]) -> list[StreamStatus]:
        """List the streams, each with the time of its newest stored row, or else of the old leader's last renewal."""
        found = []
        database = await self._access.connect_bounded()
        try:
            for channel in sorted({stream.channel for stream in streams}):
                symbols = [stream.symbol for stream in streams if stream.channel == channel]
                last = await _last_stored(database, exchange, channel, symbols, self._before.expires_at)
                for symbol in symbols:
                    at = last.get(symbol, self._before.renewed_at)
                    found.append(StreamStatus(channel, symbol, last_received_at=at))
        finally:
            await database.close()
        return found

    def _end(self, status: FeedStatus) -> None:
        tracker = self._trackers.get(status.label)
        if tracker is None or not tracker.open:
            return
        for stream in status.streams:
            at = stream.last_received_at
            if at is not None and (gap := tracker.delivered(stream, at=at)) is not None:
                self._intake.put(gap)


async def _last_stored(
    database: Database, exchange: str, channel: str, symbols: Sequence[str], before: int
) -> dict[str, int]:
    """The exchange's time of each symbol's newest row before `before`, in microseconds since the epoch. Symbols without
    a row in two days are left out."""
    names = database.names
    rows = await database.fetch(
        f"SELECT wanted.symbol, (SELECT max(time) FROM {ROW_OF[channel].table} AS stored "  # noqa: S608 # a constant
        "WHERE stored.exchange = $1 AND stored.symbol = wanted.symbol AND time < $3 AND time > $4) AS last "
        "FROM unnest($2::text[]) AS wanted (symbol)",
        exchange,
        [names.name(exchange, symbol) for symbol in symbols if names.has(exchange, symbol)],
        to_datetime(before),
        to_datetime(before - _LOOK_BACK_US),
    )
    return {
        names.symbol(exchange, row["symbol"]): from_datetime(row["last"]) for row in rows if row["last"] is not None
    }
