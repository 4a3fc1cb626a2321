"""Replays a capture to all subscribers, at the recorded pace, faster, or as fast as the sockets accept it."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from ingestd.clock import monotonic_s, now_us
from ingestd.lab.sim.capture import Capture, RecordedFrame, read_capture
from ingestd.lab.sim.faults import Fault, Scheduled
from ingestd.lab.sim.hub import Connection, Hub
from ingestd.lab.sim.server import LocalVenue
from ingestd.lab.sim.source import Source
from ingestd.lab.sim.venues.base import RecordedBook, RestAnswer, RestCall, SentTrade, Stream, shifted

MAX_SPEED = math.inf
_FRAMES_PER_FLUSH = 64
_LONGEST_SLEEP_S = 0.1  # so that a stop is noticed soon
_REMEMBERED = 1000  # number of latest trade frames that a `duplicate` can resend


class ReplaySource(Source):
    """A capture and a cursor in it. `speed` 1 is the recorded pace, `MAX_SPEED` is as fast as possible."""

    def __init__(self, capture: Capture, *, speed: float, shift_to_now: bool, quiet_s: float | None) -> None:
        super().__init__(capture.venue, quiet_s, deduplicate=True)
        self._capture = capture
        self._speed = speed
        self._shift_to_now = shift_to_now
        self._streams = {frame.stream.name: frame.stream for frame in capture.frames}
        self._cursor = 0
        self._delta_ms: int | None = None if shift_to_now else 0
        self.books: dict[str, RecordedBook] = {}  # at the cursor, by market id
        self._opened: set[str] = set()  # order book streams whose recorded snapshot the cursor has passed
        self._last_trades: deque[tuple[Stream, str]] = deque(maxlen=_REMEMBERED)
        self._withhold = 0
        self._withhold_market: str | None = None
        self._origin_s = 0.0  # monotonic time at which the first frame was due
        market_ids = dict.fromkeys(stream.market_id for stream in self._streams.values())
        self.symbols = self.venue.symbols(market_ids, self)

    # the data for the venue's REST

    def recorded(self, url_part: str) -> list[str]:
        return [body for url, body in self._capture.bodies if url_part in url]

    def newest_trades(self, market_id: str, limit: int) -> list[SentTrade]:
        frames = [payload for stream, payload in reversed(self._last_trades) if stream.market_id == market_id]
        return [trade for payload in frames[:limit] for trade in reversed(self.venue.trades(payload))][:limit]

    def now_ms(self) -> int:
        frames = self._capture.frames
        at = frames[min(self._cursor, len(frames) - 1)].at
        return int(at * 1000) + self._shift_ms()

    # the interface to the server

    def resolve(self, asked: str, host: str) -> Stream | None:
        """Return the recorded stream for a subscription; note an adaptation if it differs."""
        name = self.venue.stands_in(asked, self._streams)
        if name is None:
            self.adapted("unavailable", asked, "acknowledged, then silent")
            return None
        if name != asked:
            self.adapted("stream", asked, name)
        return self._streams[name]

    def subscribed(self, connection: Connection, stream: Stream) -> None:
        """Note an adaptation if the envelope differs from the recorded one."""
        if self._capture.enveloped and not connection.combined:
            self.adapted("envelope", f"raw {stream.name}", "recorded in a combined stream; envelope removed")

    def opening_frames(self, stream: Stream) -> list[str]:
        """For a book subscribed late, a snapshot of the book replayed so far."""
        book = self.books.get(stream.market_id)
        if stream.channel != "order_book" or book is None or stream.name not in self._opened:
            return []
        snapshot = self.venue.book_snapshot(stream, book)
        if snapshot is None:
            return []
        self.adapted("snapshot", stream.name, "made from the frames replayed so far")
        return [self.venue.shift(stream, snapshot, self._shift_ms())]

    def rest(self, call: RestCall) -> RestAnswer | None:
        answer = self.venue.rest(call, self)
        # a server time comes from `now_ms`, which is already shifted
        if answer is None or answer.is_of_now or not self._shift_to_now or call.path.endswith("time"):
            return answer
        body = shifted(self.venue.times, answer.body, self._shift_ms())
        return RestAnswer(body, answer.adapted, answer.status)

    def describe(self) -> dict[str, object]:
        return {
            "capture": self._capture.path.name,
            "frames": len(self._capture.frames),
            "cursor": self._cursor,
            "shift_ms": self._shift_ms(),
        }

    async def misbehave(self, fault: Fault, market_id: str | None, hub: Hub) -> int:
        """`burst` sends the next n trade frames, and all frames between them, at once; the others act as in `Fault`."""
        match fault.kind:
            case "duplicate":
                chosen = [item for item in self._last_trades if market_id in (None, item[0].market_id)][-fault.n :]
                for stream, payload in chosen:
                    self._publish(hub, stream, payload)
                await hub.flush()
                return len(chosen)
            case "id_jump":
                self._withhold, self._withhold_market = fault.n, market_id
                return fault.n
            case "burst":
                return await self._burst(fault.n, market_id, hub)
        return await super().misbehave(fault, market_id, hub)

    # the emission

    async def run(self, hub: Hub) -> None:
        """Replay from the first frame to the last, once."""
        await self.switch.until_on()
        self._delta_ms = self._shift_ms()
        count = len(self._capture.frames)
        self._origin_s = monotonic_s()
        while self._cursor < count:
            paused_at = monotonic_s()
            await self.switch.until_on()
            if self._speed == MAX_SPEED:
                await hub.anyone.wait()  # at `MAX_SPEED` the replay would end before a client has reconnected
            now_s = monotonic_s()
            self._origin_s += now_s - paused_at
            async with self.switch.turn:
                for number in range(self._cursor, min(self._cursor + _FRAMES_PER_FLUSH, count)):
                    if self._due_s(number) > now_s:
                        break
                    self._step(hub)
                await hub.flush()
            left_s = self._due_s(self._cursor) - monotonic_s() if self._cursor < count else 0.0
            await asyncio.sleep(min(max(0.0, left_s), _LONGEST_SLEEP_S))
        self.finished = True

    def _due_s(self, number: int) -> float:
        """The monotonic time at which a frame is due."""
        frames = self._capture.frames
        return self._origin_s + (frames[number].at - frames[0].at) / self._speed

    def _step(self, hub: Hub) -> RecordedFrame:
        frame = self._capture.frames[self._cursor]
        self._cursor += 1
        stream = frame.stream
        if stream.channel == "order_book":
            self._keep_book(frame)
        payload = self.venue.shift(stream, frame.payload, self._shift_ms()) if self._shift_to_now else frame.payload
        if stream.channel == "trades":
            if self._withhold and self._withhold_market in (None, stream.market_id):
                self._withhold -= 1
                self.ledger.withhold(stream, payload.encode(), len(self.venue.trades(payload)))
                return frame
            self._last_trades.append((stream, payload))
        self._publish(hub, stream, payload)
        return frame

    def _publish(self, hub: Hub, stream: Stream, payload: str) -> None:
        sent = payload.encode()
        copies = hub.publish(stream, sent)
        if stream.channel != "trades":
            if copies:
                self.ledger.record(stream, sent, copies)
            return
        trades = self.venue.trades(payload)
        if copies:
            fresh = sum(self.ledger.is_fresh(stream, trade.trade_id) for trade in trades)
            last_id = trades[-1].trade_id if trades else ""
            self.ledger.record_trades(stream, sent, copies, last_id, records=len(trades), fresh=fresh)
        else:
            self.ledger.withhold(stream, sent, len(trades))

    async def _burst(self, n: int, market_id: str | None, hub: Hub) -> int:
        sent = 0
        skipped_from = self._cursor
        while sent < n and self._cursor < len(self._capture.frames):
            frame = self._step(hub)
            sent += frame.stream.channel == "trades" and market_id in (None, frame.stream.market_id)
        if self._cursor > skipped_from:
            self._origin_s -= self._due_s(self._cursor - 1) - self._due_s(skipped_from)
        await hub.flush()
        return sent

    def _keep_book(self, frame: RecordedFrame) -> None:
        change = self.venue.book_change(frame.payload)
        book = self.books.get(change.market_id)
        if book is None:
            book = self.books[change.market_id] = RecordedBook()
            first = self.venue.first_book(change.market_id, self)
            if first is not None:
                book.apply(first)
        book.apply(change)
        self._opened.add(frame.stream.name)

    def _shift_ms(self) -> int:
        """The constant time shift in ms. Before the replay starts it is the one for a start now, which moves the first
        frame to now or, at a higher speed, the last one to its sending time."""
        if self._delta_ms is not None:
            return self._delta_ms
        duration_s = self._capture.duration_s
        ahead_s = max(0.0, duration_s - duration_s / self._speed)
        return now_us() // 1000 - int((self._capture.frames[0].at + ahead_s) * 1000)


ReplayVenue: TypeAlias = LocalVenue[ReplaySource]


def replay_venue(
    path: str | Path,
    *,
    speed: float = 1.0,
    shift_to_now: bool = False,
    quiet_s: float | None = 1.0,
    port: int = 0,
    schedule: Sequence[Scheduled] = (),
) -> ReplayVenue:
    """`async with replay_venue(path, speed=MAX_SPEED) as venue: venue.url_map`."""
    capture = read_capture(Path(path))
    source = ReplaySource(capture, speed=speed, shift_to_now=shift_to_now, quiet_s=quiet_s)
    return LocalVenue(source, port=port, schedule=schedule)
