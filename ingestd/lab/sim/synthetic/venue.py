"""Runs the generated markets at a given rate for all subscribers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from ingestd.clock import monotonic_s
from ingestd.lab.sim.faults import Fault, FaultError, Scheduled
from ingestd.lab.sim.hub import Connection, Hub
from ingestd.lab.sim.ledger import Ledger
from ingestd.lab.sim.local import LocalVenue
from ingestd.lab.sim.source import Adaptations
from ingestd.lab.sim.switch import Switch
from ingestd.lab.sim.synthetic.market import Listing, Market, Trade
from ingestd.lab.sim.synthetic.rest import Rest
from ingestd.lab.sim.synthetic.wire import AGGREGATE_OFFSET, Wire
from ingestd.lab.sim.venues.base import RestAnswer, RestCall, Stream
from ingestd.lab.sim.venues.binance import INVERSE_REST, LINEAR_REST, LINEAR_WS, SPOT_REST, Binance, stream_named

_BASES = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "AVAX", "LINK", "DOT", "LTC")
_TURN_S = 0.004  # interval at which the loop sends what is due
_EVENTS_PER_FLUSH = 1000
_LONGEST_DEBT_S = 0.25  # a longer delay by slow clients is not caught up
_DEPTH_PERIOD_S = 0.1
_SECOND_PERIOD_S = 1.0
_HISTORY_IN_ALL = 400_000  # trades kept for REST, over all markets
_HISTORY_EACH = (1_000, 40_000)


class Lane:
    """One market and its streams ever subscribed, which continue without subscribers, as a real market does."""

    def __init__(self, market: Market, prefix: str) -> None:
        self.market = market
        self.wire = Wire(market)
        self.live: set[str] = set()
        lower = market.listing.market_id.lower()
        kinds = ("trade", "aggTrade", "bookTicker", "depth@100ms", "markPrice@1s", "kline_1m")
        self.streams = {kind: self._stream(prefix, f"{lower}@{kind}") for kind in kinds}

    def _stream(self, prefix: str, name: str) -> Stream:
        return Stream(prefix + name, stream_named(name).channel, self.market.listing.key)


class Beat:
    """Visits every item of a list once per period, in slices, so that not all fall on the same millisecond."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._credit = 0.0
        self._next = 0

    def due(self, lanes: Sequence[Lane], elapsed_s: float) -> Iterator[Lane]:
        """The items due since the last call."""
        if not lanes:
            return
        self._credit += len(lanes) * min(elapsed_s, self._period_s) / self._period_s
        while self._credit >= 1:
            self._credit -= 1
            self._next = (self._next + 1) % len(lanes)
            yield lanes[self._next]


class SyntheticSource:
    """`rate` is trades and book tickers per second over all live markets, not counting depth, mark price and
    candles."""

    def __init__(
        self,
        listings: Sequence[Listing],
        venue: Binance,
        ledger: Ledger,
        *,
        rate: float,
        seed: int,
        quiet_s: float | None,
    ) -> None:
        self.venue = venue
        self.switch = Switch(quiet_s)
        self.adaptations = Adaptations()
        self.finished = False
        self._ledger = ledger
        self._rate = rate
        self._random = random.Random(seed)
        # unique across restarts (a database may outlive the simulator and must not see an id twice) and below 2^53
        first_id = time.time_ns() // 1_000_000
        least, most = _HISTORY_EACH
        history = max(least, min(most, _HISTORY_IN_ALL // len(listings)))
        lanes = [
            Lane(Market(listing, seed + number, first_id, history), "usdm:" if listing.linear else "")
            for number, listing in enumerate(listings)
        ]
        self.symbols = {lane.market.listing.symbol: lane.market.listing.key for lane in lanes}
        self._lanes = {(lane.market.listing.linear, lane.market.listing.market_id): lane for lane in lanes}
        self.lane_of_key = {lane.market.listing.key: lane for lane in lanes}
        self._rest = {
            LINEAR_REST.path: Rest([lane.market for lane in lanes if lane.market.listing.linear]),
            SPOT_REST.path: Rest([lane.market for lane in lanes if not lane.market.listing.linear]),
            INVERSE_REST.path: Rest([]),
        }
        self._events: list[tuple[Callable[[Hub, Lane, int], None], Lane]] = []  # the event generators that share `rate`
        self._depth: list[Lane] = []
        self._seconds: list[Lane] = []
        self._halted: set[str] = set()
        self.events = 0

    def set_rate(self, rate: float) -> None:
        """Set the rate in trades and book tickers per second."""
        self._rate = rate

    def halt(self, symbol: str) -> None:
        """Halt a market: no more trades and no changes of its best prices."""
        lane = self.lane_of_key[self.symbols[symbol]]
        self._halted.add(lane.market.listing.key)
        self._events = [event for event in self._events if event[1] is not lane]

    def resume(self, symbol: str) -> None:
        """Resume a halted market."""
        key = self.symbols[symbol]
        self._halted.discard(key)
        lane = self.lane_of_key[key]
        self._events += [(self._trade, lane)] if lane.live & {"trade", "aggTrade"} else []
        self._events += [(self._book_ticker, lane)] if "bookTicker" in lane.live else []

    def resolve(self, asked: str, host: str) -> Stream | None:
        """Find the stream by name; the host tells the spot pair from the perpetual."""
        market, _, kind = asked.partition("@")
        lane = self._lanes.get((host == LINEAR_WS.path, market.upper()))
        family = {"depth": "depth@100ms", "markPrice": "markPrice@1s"}.get(kind.split("@")[0], kind)
        stream = lane.streams.get(family) if lane else None
        if stream is None:
            self.adaptations.note("unavailable", asked, "acknowledged, then silent")
        elif family != kind:
            self.adaptations.note("stream", asked, stream.name)
        return stream

    def subscribed(self, connection: Connection, stream: Stream) -> None:
        """Make the stream live."""
        lane = self.lane_of_key[stream.market_id]
        if stream.market_id in self._halted:
            return
        kind = next(kind for kind, own in lane.streams.items() if own == stream)
        if kind in lane.live:
            return
        if kind in ("trade", "aggTrade"):
            if not lane.live & {"trade", "aggTrade"}:
                self._events.append((self._trade, lane))
        elif kind == "bookTicker":
            self._events.append((self._book_ticker, lane))
        elif kind == "depth@100ms":
            lane.market.open_book()
            self._depth.append(lane)
        elif not lane.live & {"markPrice@1s", "kline_1m"}:
            self._seconds.append(lane)
        lane.live.add(kind)

    def opening_frames(self, stream: Stream) -> list[str]:
        """No opening frames."""
        return []

    def rest(self, call: RestCall) -> RestAnswer | None:
        """Answer Binance's endpoints by the last part of the path."""
        family = self._rest.get(call.host)
        answer = family.answer(call.path.rsplit("/", 1)[-1], call.query, _now_ms()) if family else None
        return RestAnswer(answer[1], status=answer[0]) if answer else None

    def describe(self) -> dict[str, object]:
        """The configured rate, and the number of trades and book tickers generated."""
        return {"rate": self._rate, "events": self.events}

    async def misbehave(self, fault: Fault, market_id: str | None, hub: Hub) -> int:
        """`burst` and `id_jump` make n new trades per market; `duplicate` sends the last n again; `depth_jump` makes n
        book changes without a frame.
        """
        if fault.kind == "depth_jump":
            books = [lane for lane in self._depth if market_id in (None, lane.market.listing.key)]
            for market in [lane.market for lane in books for _ in range(fault.n)]:
                market.quote()
                market.take_changes()
            return fault.n * len(books)
        lanes = [lane for lane in self._lanes.values() if lane.live & {"trade", "aggTrade"}]
        lanes = [lane for lane in lanes if market_id in (None, lane.market.listing.key)]
        now_ms = _now_ms()
        for lane in lanes:
            match fault.kind:
                case "burst":
                    for _ in range(fault.n):
                        self._trade(hub, lane, now_ms)
                case "id_jump":
                    for _ in range(fault.n):
                        self._withhold(lane, lane.market.trade(now_ms))
                case "duplicate":
                    for trade in list(lane.market.trades)[-fault.n :]:
                        self._send(hub, lane, trade, fresh=0)
                case _:
                    raise FaultError(f"a generated market cannot do {fault.kind}")
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
            debt = min(debt + self._rate * elapsed_s, self._rate * _LONGEST_DEBT_S)
            async with self.switch.turn:
                for lane in depth.due(self._depth, elapsed_s):
                    self._depth_frame(hub, lane)
                for lane in seconds.due(self._seconds, elapsed_s):
                    self._second_frames(hub, lane)
                count = min(int(debt), _EVENTS_PER_FLUSH)
                debt -= count
                self._emit(hub, count)
                await hub.flush()
            # do remaining work of a full turn without waiting, but yield to other tasks
            await asyncio.sleep(0 if debt >= _EVENTS_PER_FLUSH else _TURN_S)

    def _emit(self, hub: Hub, count: int) -> None:
        if not self._events:
            return
        now_ms = _now_ms()
        for emit, lane in self._random.choices(self._events, k=count):
            emit(hub, lane, now_ms)
        self.events += count

    def _trade(self, hub: Hub, lane: Lane, now_ms: int) -> None:
        self._send(hub, lane, lane.market.trade(now_ms), fresh=1)

    def _send(self, hub: Hub, lane: Lane, trade: Trade, *, fresh: int) -> None:
        if "trade" in lane.live:
            stream, payload = lane.streams["trade"], lane.wire.trade(trade)
            self._send_as(hub, stream, payload, trade.trade_id, fresh)
        if "aggTrade" in lane.live:
            stream, payload = lane.streams["aggTrade"], lane.wire.aggregate(trade)
            self._send_as(hub, stream, payload, trade.trade_id - AGGREGATE_OFFSET, fresh)

    def _send_as(self, hub: Hub, stream: Stream, payload: bytes, trade_id: int, fresh: int) -> None:
        copies = hub.publish(stream, payload)
        if copies:
            self._ledger.record_trades(stream, payload, copies, str(trade_id), records=1, fresh=fresh)
        elif fresh:
            self._ledger.withhold(stream, payload, 1)

    def _withhold(self, lane: Lane, trade: Trade) -> None:
        if "trade" in lane.live:
            self._ledger.withhold(lane.streams["trade"], lane.wire.trade(trade), 1)
        if "aggTrade" in lane.live:
            self._ledger.withhold(lane.streams["aggTrade"], lane.wire.aggregate(trade), 1)

    def _book_ticker(self, hub: Hub, lane: Lane, now_ms: int) -> None:
        lane.market.quote()
        self._publish(hub, lane.streams["bookTicker"], lane.wire.book_ticker(now_ms))

    def _depth_frame(self, hub: Hub, lane: Lane) -> None:
        lane.market.quote()
        self._publish(hub, lane.streams["depth@100ms"], lane.wire.depth(_now_ms()))

    def _second_frames(self, hub: Hub, lane: Lane) -> None:
        now_ms = _now_ms()
        if "markPrice@1s" in lane.live:
            self._publish(hub, lane.streams["markPrice@1s"], lane.wire.mark_price(now_ms))
        if "kline_1m" in lane.live:
            self._publish(hub, lane.streams["kline_1m"], lane.wire.kline(now_ms))

    def _publish(self, hub: Hub, stream: Stream, payload: bytes) -> None:
        copies = hub.publish(stream, payload)
        if copies:
            self._ledger.record(stream, payload, copies)


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
    """`async with synthetic_venue(symbols=5, rate=2000) as venue: venue.url_map`."""
    venue = Binance(linear=symbols == 0)
    ledger = Ledger(venue, deduplicate=False)
    listings = [*spot_listings(symbols), *_listings(futures_symbols, linear=True)]
    source = SyntheticSource(listings, venue, ledger, rate=rate, seed=seed, quiet_s=quiet_s)
    return LocalVenue(source, ledger, port=port, schedule=schedule)


def spot_listings(count: int) -> list[Listing]:
    """That many spot pairs."""
    return _listings(count, linear=False)


def _listings(count: int, *, linear: bool) -> list[Listing]:
    """`BTC/USDT`, `ETH/USDT`, …, then `SIM0010/USDT` on; prices from about 100 to 100,000."""
    listings = []
    for number in range(count):
        base = _BASES[number] if number < len(_BASES) else f"SIM{number:04d}"
        symbol = f"{base}/USDT:USDT" if linear else f"{base}/USDT"
        first_tick = 100_000 + 37_003 * (number * 7 % 97)
        listings.append(Listing(symbol, base, "USDT", linear, 2, first_tick))
    return listings


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
