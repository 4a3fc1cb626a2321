"""Runs the generated markets at a given rate for all subscribers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from ingestd.clock import monotonic_s, now_us
from ingestd.lab.sim.faults import Fault, Scheduled
from ingestd.lab.sim.hub import Connection, Hub
from ingestd.lab.sim.server import LocalVenue
from ingestd.lab.sim.source import Source
from ingestd.lab.sim.synthetic.market import Listing, Market, Trade, listings, new_first_id
from ingestd.lab.sim.synthetic.rest import Rest
from ingestd.lab.sim.synthetic.wire import AGGREGATE_OFFSET, Wire
from ingestd.lab.sim.venues.base import RestAnswer, RestCall, Stream
from ingestd.lab.sim.venues.binance import LINEAR_WS, Binance, stream_named

_TRADES = {"trade", "aggTrade"}
_TURN_S = 0.004  # interval at which the loop sends what is due
_EVENTS_PER_FLUSH = 1000
_LONGEST_DEBT_S = 0.25  # after a longer delay by slow clients, the rest of the delay is not caught up
_DEPTH_PERIOD_S = 0.1
_SECOND_PERIOD_S = 1.0
_HISTORY_IN_ALL = 400_000  # trades kept for REST, over all markets
_HISTORY_EACH = (1_000, 40_000)


class Lane:
    """One market and its streams. A stream once subscribed to goes on without subscribers, as on a real exchange."""

    def __init__(self, market: Market, prefix: str) -> None:
        self.market = market
        self.wire = Wire(market)
        self.live: set[str] = set()
        lower = market.listing.market_id.lower()
        kinds = ("trade", "aggTrade", "bookTicker", "depth@100ms", "markPrice@1s", "kline_1m")
        streams = {kind: stream_named(f"{lower}@{kind}") for kind in kinds}
        self.streams = {
            kind: Stream(prefix + name, channel, market.listing.key) for kind, (name, channel, _) in streams.items()
        }

    def frames(self, trade: Trade) -> Iterator[tuple[Stream, bytes, int]]:
        """The frame of this trade on each live stream of trades, with the trade's id on that stream."""
        if "trade" in self.live:
            yield self.streams["trade"], self.wire.trade(trade), trade.trade_id
        if "aggTrade" in self.live:
            yield self.streams["aggTrade"], self.wire.aggregate(trade), trade.trade_id - AGGREGATE_OFFSET


class Beat:
    """Yields every market of a list once per period, some at each call, so that not all fall on one millisecond."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._credit = 0.0
        self._next = 0

    def due(self, lanes: Sequence[Lane], elapsed_s: float) -> Iterator[Lane]:
        if not lanes:
            return
        self._credit += len(lanes) * min(elapsed_s, self._period_s) / self._period_s
        while self._credit >= 1:
            self._credit -= 1
            self._next = (self._next + 1) % len(lanes)
            yield lanes[self._next]


class SyntheticSource(Source):
    """Generates markets in Binance's wire format.

    `rate`: trades and book tickers per second over all live markets; depth, mark prices and candles come on top.
    """

    def __init__(self, listings: Sequence[Listing], *, rate: float, seed: int, quiet_s: float | None) -> None:
        super().__init__(Binance(linear=all(listing.linear for listing in listings)), quiet_s, deduplicate=False)
        self.rate = rate
        self.events = 0  # trades and book tickers made
        self._random = random.Random(seed)
        first_id = new_first_id()
        least, most = _HISTORY_EACH
        history = max(least, min(most, _HISTORY_IN_ALL // len(listings)))
        markets = [Market(listing, seed + number, first_id, history) for number, listing in enumerate(listings)]
        self.symbols = {market.listing.symbol: market.listing.key for market in markets}
        self.lane_of_key = {
            market.listing.key: Lane(market, "usdm:" if market.listing.linear else "") for market in markets
        }
        self._rest = Rest(markets)
        self._halted: set[str] = set()
        self._is_arranged = False  # whether the lists below are up to date
        self._events: list[tuple[Callable[[Hub, Lane, int], None], Lane]] = []  # the event generators that share `rate`
        self._depth: list[Lane] = []
        self._seconds: list[Lane] = []

    def halt(self, symbol: str) -> None:
        """Halt a market: no more trades and no changes of its best prices."""
        self._halted.add(self.symbols[symbol])
        self._is_arranged = False

    def resume(self, symbol: str) -> None:
        self._halted.discard(self.symbols[symbol])
        self._is_arranged = False

    def resolve(self, asked: str, host: str) -> Stream | None:
        """Find the stream by name; the host tells the spot pair from the perpetual."""
        market, _, kind = asked.partition("@")
        lane = self.lane_of_key.get(market.upper() + (".P" if host == LINEAR_WS.path else ""))
        family = {"depth": "depth@100ms", "markPrice": "markPrice@1s"}.get(kind.split("@")[0], kind)
        stream = lane.streams.get(family) if lane else None
        if stream is None:
            self.adapted("unavailable", asked, "acknowledged, then silent")
        elif family != kind:
            self.adapted("stream", asked, stream.name)
        return stream

    def subscribed(self, connection: Connection, stream: Stream) -> None:
        lane = self.lane_of_key[stream.market_id]
        if stream.market_id in self._halted:
            return
        kind = next(kind for kind, own in lane.streams.items() if own == stream)
        if kind == "depth@100ms":
            lane.market.open_book()
        lane.live.add(kind)
        self._is_arranged = False

    def rest(self, call: RestCall) -> RestAnswer | None:
        return self._rest.answer(call)

    def describe(self) -> dict[str, object]:
        """The configured rate, and the number of trades and book tickers generated."""
        return {"rate": self.rate, "events": self.events}

    async def misbehave(self, fault: Fault, market_id: str | None, hub: Hub) -> int:
        """Apply a fault to one market or to all: `burst` sends n new trades of each; `id_jump` makes n without sending
        them; `duplicate` sends the last n again; `depth_jump` makes n book changes without a frame.
        """
        concerned = [lane for key, lane in self.lane_of_key.items() if market_id in (None, key)]
        if fault.kind == "depth_jump":
            books = [lane for lane in concerned if "depth@100ms" in lane.live]
            for market in [lane.market for lane in books for _ in range(fault.n)]:
                market.quote()
                market.take_changes()
            return fault.n * len(books)
        lanes = [lane for lane in concerned if lane.live & _TRADES]
        now_ms = now_us() // 1000
        for lane in lanes:
            match fault.kind:
                case "burst":
                    for _ in range(fault.n):
                        self._trade(hub, lane, now_ms)
                case "id_jump":
                    for _ in range(fault.n):
                        for stream, payload, _ in lane.frames(lane.market.trade(now_ms)):
                            self.ledger.withhold(stream, payload, 1)
                case "duplicate":
                    for trade in list(lane.market.trades)[-fault.n :]:
                        self._send(hub, lane, trade, fresh=0)
                case _:
                    return await super().misbehave(fault, market_id, hub)
        await hub.flush()
        return fault.n * len(lanes)

    async def run(self, hub: Hub) -> None:
        """Generate events until cancelled."""
        await self.switch.until_on()
        depth, seconds = Beat(_DEPTH_PERIOD_S), Beat(_SECOND_PERIOD_S)
        debt = 0.0
        last_s = monotonic_s()
        while True:
            if not self.switch.is_on:
                await self.switch.until_on()
                last_s = monotonic_s()
            now_s = monotonic_s()
            elapsed_s, last_s = now_s - last_s, now_s
            debt = min(debt + self.rate * elapsed_s, self.rate * _LONGEST_DEBT_S)
            if not self._is_arranged:
                self._arrange()
            async with self.switch.turn:
                for lane in depth.due(self._depth, elapsed_s):
                    self._depth_frame(hub, lane)
                for lane in seconds.due(self._seconds, elapsed_s):
                    self._second_frames(hub, lane)
                count = min(int(debt), _EVENTS_PER_FLUSH)
                debt -= count
                self._emit(hub, count)
                await hub.flush()
            # if more is due than one turn sends, only let other tasks run, and go on
            await asyncio.sleep(0 if debt >= _EVENTS_PER_FLUSH else _TURN_S)

    def _arrange(self) -> None:
        lanes = self.lane_of_key.values()
        running = [lane for lane in lanes if lane.market.listing.key not in self._halted]
        self._events = [(self._trade, lane) for lane in running if lane.live & _TRADES]
        self._events += [(self._book_ticker, lane) for lane in running if "bookTicker" in lane.live]
        self._depth = [lane for lane in lanes if "depth@100ms" in lane.live]
        self._seconds = [lane for lane in lanes if lane.live & {"markPrice@1s", "kline_1m"}]
        self._is_arranged = True

    def _emit(self, hub: Hub, count: int) -> None:
        if not self._events:
            return
        now_ms = now_us() // 1000
        for emit, lane in self._random.choices(self._events, k=count):
            emit(hub, lane, now_ms)
        self.events += count

    def _trade(self, hub: Hub, lane: Lane, now_ms: int) -> None:
        self._send(hub, lane, lane.market.trade(now_ms), fresh=1)

    def _send(self, hub: Hub, lane: Lane, trade: Trade, *, fresh: int) -> None:
        for stream, payload, trade_id in lane.frames(trade):
            copies = hub.publish(stream, payload)
            if copies:
                self.ledger.record_trades(stream, payload, copies, str(trade_id), records=1, fresh=fresh)
            elif fresh:
                self.ledger.withhold(stream, payload, 1)

    def _book_ticker(self, hub: Hub, lane: Lane, now_ms: int) -> None:
        lane.market.quote()
        self._publish(hub, lane.streams["bookTicker"], lane.wire.book_ticker(now_ms))

    def _depth_frame(self, hub: Hub, lane: Lane) -> None:
        lane.market.quote()
        self._publish(hub, lane.streams["depth@100ms"], lane.wire.depth(now_us() // 1000))

    def _second_frames(self, hub: Hub, lane: Lane) -> None:
        now_ms = now_us() // 1000
        if "markPrice@1s" in lane.live:
            self._publish(hub, lane.streams["markPrice@1s"], lane.wire.mark_price(now_ms))
        if "kline_1m" in lane.live:
            self._publish(hub, lane.streams["kline_1m"], lane.wire.kline(now_ms))

    def _publish(self, hub: Hub, stream: Stream, payload: bytes) -> None:
        copies = hub.publish(stream, payload)
        if copies:
            self.ledger.record(stream, payload, copies)


SyntheticVenue: TypeAlias = LocalVenue[SyntheticSource]


def synthetic_venue(
    *,
    symbols: int = 5,
    futures_symbols: int = 0,
    rate: float = 1000.0,
    seed: int = 1,
    quiet_s: float | None = 0.0,
    port: int = 0,
    schedule: Sequence[Scheduled] = (),
) -> SyntheticVenue:
    """Make a simulated exchange: `async with synthetic_venue(symbols=5, rate=2000) as venue: venue.url_map`."""
    markets = [*listings(symbols), *listings(futures_symbols, linear=True)]
    source = SyntheticSource(markets, rate=rate, seed=seed, quiet_s=quiet_s)
    return LocalVenue(source, port=port, schedule=schedule)
