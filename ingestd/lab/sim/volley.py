"""Sends trades and best prices in Binance's wire format at rates that a fully simulated market cannot reach.

A volley at full speed is generated beforehand, so that the sender uses little processor time during the measurement.
Frames sent at a pace carry the time they were due, not the time they were sent, so that delays caused by a slow
receiver are counted.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import Literal, NamedTuple, TypeAlias

from ingestd.clock import monotonic_s, now_us
from ingestd.lab.sim.hub import Connection, Hub, text_frame
from ingestd.lab.sim.server import LocalVenue
from ingestd.lab.sim.source import Source
from ingestd.lab.sim.synthetic.market import Market, listings, new_first_id
from ingestd.lab.sim.synthetic.rest import Rest
from ingestd.lab.sim.synthetic.wire import SPOT_BOOK_TICKER, SPOT_TRADE
from ingestd.lab.sim.venues.base import RestAnswer, RestCall, Stream
from ingestd.lab.sim.venues.binance import Binance, stream_named

_TURN_S = 0.001
_FRAMES_AT_ONCE = 256
_HISTORY = 1000
_PRICES = tuple(b"%d.%02d000000" % (64_000 + number * 7 % 977, number % 100) for number in range(977))
_SIZES = tuple(b"0.%05d000" % (number * 31 % 99_999 + 1) for number in range(499))


@dataclass(frozen=True, slots=True)
class Steady:
    """A constant rate per second."""

    per_s: float

    def due(self, elapsed_s: float) -> int:
        """The total number of frames due so many seconds after the first."""
        return int(elapsed_s * self.per_s)

    def at_s(self, number: int) -> float:
        """The time at which frame `number`, counted from 0, is due."""
        return number / self.per_s


@dataclass(frozen=True, slots=True)
class Bursts:
    """A fixed sequence of bursts, played `speed` times as fast."""

    offsets_s: Sequence[float]
    speed: float

    def due(self, elapsed_s: float) -> int:
        return bisect_right(self.offsets_s, elapsed_s * self.speed)

    def at_s(self, number: int) -> float:
        return self.offsets_s[number] / self.speed


Pace: TypeAlias = Steady | Bursts


def burst_offsets(seconds: float, per_s: float) -> list[float]:
    """The times at which `seconds * per_s` frames are due: a tenth evenly, the rest in bursts of 20 to 300 ms, a few of
    which hold most frames, as in a liquidation cascade."""
    random = Random(1)
    total = int(seconds * per_s)
    even = total // 10
    offsets = [seconds * number / even for number in range(even)]
    bursts = []
    at_s = 0.0
    while (at_s := at_s + random.expovariate(1.0)) < seconds - 0.3:
        bursts.append((at_s, random.uniform(0.02, 0.3), random.paretovariate(1.2)))
    weights = [weight for _, _, weight in bursts]
    for start_s, length_s, _ in random.choices(bursts, weights, k=total - even) if bursts else ():
        offsets.append(start_s + random.random() * length_s)
    return sorted(offsets)


class Sent(NamedTuple):
    """Encoded frames of one connection."""

    connection: Connection
    data: bytes
    kinds: Counter[str]


class _Lane:
    """One stream on one connection."""

    def __init__(self, connection: Connection, stream: Stream, first_id: int) -> None:
        self.connection = connection
        self.channel: Literal["trades", "ticks"] = "trades" if stream.channel == "trades" else "ticks"
        self._template = (SPOT_TRADE if self.channel == "trades" else SPOT_BOOK_TICKER) % stream.market_id.encode()
        self._id = first_id
        self._price = cycle(_PRICES)
        self._size = cycle(_SIZES)

    def frame(self, at_ms: int) -> bytes:
        self._id = number = self._id + 1
        if self.channel == "trades":
            maker = b"true" if number % 3 else b"false"
            return text_frame(self._template % (at_ms, number, next(self._price), next(self._size), at_ms, maker))
        bid, size = next(self._price), next(self._size)
        return text_frame(self._template % (number, bid, size, b"6" + bid, size))


class VolleySource(Source):
    """`pace`: None sends as fast as the sockets accept frames; `count`: number of frames (None: no limit).

    It supports no faults.
    """

    def __init__(self, symbols: int, *, pace: Pace | None, count: int | None, quiet_s: float | None) -> None:
        if pace is None and count is None:
            raise ValueError("as fast as possible needs a count: it is made up beforehand")
        super().__init__(Binance(), quiet_s, deduplicate=False)
        self._pace = pace
        self._count = count
        self._first_id = new_first_id()
        markets = [Market(listing, 1, self._first_id, _HISTORY) for listing in listings(symbols)]
        self._rest = Rest(markets)
        self.symbols = {market.listing.symbol: market.listing.key for market in markets}
        self._market_ids = set(self.symbols.values())
        self._lanes: list[_Lane] = []
        self._started_at: int | None = None
        self._finished_at: int | None = None

    def resolve(self, asked: str, host: str) -> Stream | None:
        """Return the stream if it is of trades or best prices."""
        stream = stream_named(asked)
        if stream.channel in ("trades", "ticks") and stream.market_id in self._market_ids:
            return stream
        self.adapted("unavailable", asked, "acknowledged, then silent")
        return None

    def subscribed(self, connection: Connection, stream: Stream) -> None:
        """Add the stream to those sent; has no effect on a volley that is already generated."""
        self._lanes.append(_Lane(connection, stream, self._first_id))

    def rest(self, call: RestCall) -> RestAnswer | None:
        return self._rest.answer(call)

    def describe(self) -> dict[str, object]:
        """The times of the first and the last frame, in microseconds since the epoch."""
        return {"started_at": self._started_at, "finished_at": self._finished_at, "lanes": len(self._lanes)}

    async def run(self, hub: Hub) -> None:
        await self.switch.until_on()
        if self._pace is None:
            await self._at_once(self._count or 0)
        else:
            await self._paced(self._pace)
        for connection in {lane.connection for lane in self._lanes}:
            await connection.sent_all(60.0)
        self._finished_at = now_us()
        self.finished = True

    async def _at_once(self, count: int) -> None:
        at_ms = now_us() // 1000
        volley = list(_packed((lane, at_ms) for lane in islice(cycle(self._lanes), count)))
        self._started_at = now_us()
        for sent in volley:
            await self.switch.until_on()
            if sent.connection.is_open:
                self._write(sent)
                await sent.connection.drain()

    async def _paced(self, pace: Pace) -> None:
        started_at = self._started_at = now_us()
        started_s, done, turn = monotonic_s(), 0, 0
        while self._count is None or done < self._count:
            await self.switch.until_on()
            async with self.switch.turn:
                due = min(pace.due(monotonic_s() - started_s), self._count or 2**62)
                lanes = [lane for lane in self._lanes if lane.connection.is_open]
                frames = []
                for number in range(done, due if lanes else done):
                    frames.append((lanes[turn % len(lanes)], (started_at + int(pace.at_s(number) * 1e6)) // 1000))
                    turn += 1
                done = due
                portions = list(_packed(frames))
                for sent in portions:
                    self._write(sent)
                for sent in portions:
                    await sent.connection.drain()
            await asyncio.sleep(_TURN_S)

    def _write(self, sent: Sent) -> None:
        sent.connection.transport.write(sent.data)
        self.ledger.sent.update(sent.kinds)
        self.ledger.distinct_trades += sent.kinds["trades"]


def _packed(frames: Iterable[tuple[_Lane, int]]) -> Iterator[Sent]:
    """Make a frame for each stream and time in milliseconds, packed by connection."""
    portions: defaultdict[Connection, tuple[list[bytes], Counter[str]]] = defaultdict(lambda: ([], Counter()))
    for lane, at_ms in frames:
        portion, kinds = portions[lane.connection]
        portion.append(lane.frame(at_ms))
        kinds[lane.channel] += 1
        if len(portion) == _FRAMES_AT_ONCE:
            del portions[lane.connection]
            yield Sent(lane.connection, b"".join(portion), kinds)
    for connection, (portion, kinds) in portions.items():
        yield Sent(connection, b"".join(portion), kinds)


VolleyVenue: TypeAlias = LocalVenue[VolleySource]


def volley_venue(
    *, symbols: int = 20, pace: Pace | None, count: int | None, quiet_s: float | None = 0.0, port: int = 0
) -> VolleyVenue:
    """`async with volley_venue(symbols=20, pace=Steady(10_000)) as venue: venue.url_map`."""
    return LocalVenue(VolleySource(symbols, pace=pace, count=count, quiet_s=quiet_s), port=port)
