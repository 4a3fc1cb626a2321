"""Measures decoding alone, in memory, on the same frames: a bare JSON decoder, every native decoder, and ccxt."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson
from aiohttp import WSMessage, WSMsgType

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Intake
from ingestd.feeds.ccxt.session import CcxtSession
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.lab.bench.figures import Figures, us_each
from ingestd.lab.bench.rig import Plan
from ingestd.lab.bench.socket_stages import CountingIntake
from ingestd.lab.demo.processes import LabError
from ingestd.lab.sim.venue_frames import VENUES, Venue, numbered, raw
from ingestd.venues.all import native_venue

_FRAMES = 50_000
_QUICK_FRAMES = 5_000
_CCXT_DIVISOR = 10  # ccxt is slower, so it gets only one tenth of the frames
_RECEIVED_AT = 1_790_000_000_000_000


class _Trade(msgspec.Struct, gc=False):
    """A trade of Binance as a typed struct. To parse it is the least that a decoder does."""

    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


async def measure(plan: Plan, figures: Figures) -> None:
    """Measure the processor time per frame, in microseconds: the median of the rounds; for ccxt, their mean."""
    plan.say("decoders, in memory")
    count = _QUICK_FRAMES if plan.quick else _FRAMES
    binance = [frame.encode() for frame in numbered(raw(VENUES[0].trade), count)]
    typed = msgspec.json.Decoder(_Trade).decode
    _add(figures, "decode.orjson", "bare decoder, orjson", _median_us(plan, binance, orjson.loads))
    _add(figures, "decode.msgspec", "bare decoder, msgspec with types", _median_us(plan, binance, typed))
    for venue in VENUES:
        frames = [frame.encode() for frame in numbered(raw(venue.trade), count)]
        native = _median_us(plan, frames, _native(venue))
        _add(figures, f"decode.native_{venue.exchange}", f"{venue.exchange}: native decoder", native, "decode.msgspec")
        through_library = await _ccxt_us(plan, venue, frames[: count // _CCXT_DIVISOR])
        what = f"{venue.exchange}: ccxt"
        _add(figures, f"decode.ccxt_{venue.exchange}", what, through_library, f"decode.native_{venue.exchange}")


def _add(figures: Figures, key: str, what: str, value: float, limit: str | None = None) -> None:
    figures.add(key, what, value, "µs per trade", limit)


def _median_us(plan: Plan, frames: Sequence[bytes], decode: Callable[[bytes], object]) -> float:
    times = []
    for _ in range(plan.rounds):
        started_s = time.process_time()
        for frame in frames:
            decode(frame)
        times.append(us_each(time.process_time() - started_s, len(frames)))
    return statistics.median_high(times)


def _native(venue: Venue) -> Callable[[bytes], object]:
    found = native_venue(FeedConfig(exchange=venue.exchange, symbols=[venue.symbol], channels=["trades"]))
    if found is None:
        raise LabError(f"{venue.exchange} has no native decoder")
    names = {venue.market_id: venue.symbol, venue.symbol: venue.symbol}  # some sockets use other names for markets
    decode = found.decoder(names, 0)
    if not decode(raw(venue.trade).replace("{n}", "1").encode(), _RECEIVED_AT):
        raise LabError(f"{venue.exchange}: the decoder takes nothing from the frame it is measured on")
    return lambda frame: decode(frame, _RECEIVED_AT)


async def _ccxt_us(plan: Plan, venue: Venue, frames: Sequence[bytes]) -> float:
    """The microseconds that ccxt takes from a frame to its record: it parses, fills its cache, and makes the record."""
    taken = CountingIntake(0)
    session = _offline_session(venue, taken)
    try:
        client = session.exchange.client(venue.url)
        messages = [WSMessage(WSMsgType.TEXT, frame.decode(), None) for frame in frames]
        rounds = 1 if plan.quick else plan.rounds
        started_s = time.process_time()
        for _ in range(rounds):
            for message in messages:
                client.handle_message(message)
        took_s = time.process_time() - started_s
        if not taken.count:
            raise LabError(f"{venue.exchange}: the exchange library took nothing from the frames")
        return us_each(took_s, rounds * len(frames))
    finally:
        await session.close()


def _offline_session(venue: Venue, intake: Intake) -> CcxtSession:
    """A ccxt session without network, with one market made by hand."""
    config = FeedConfig(exchange=venue.exchange, symbols=[venue.symbol], channels=["trades"])
    reader = TapReader(config, intake)
    session = CcxtSession(config, reader)
    pair, _, settle = venue.symbol.partition(":")
    base, quote = pair.split("/")
    market: dict[str, Any] = {
        "id": venue.market_id,
        "symbol": venue.symbol,
        "base": base,
        "quote": quote,
        "settle": settle or None,
        "type": "swap" if settle else "spot",
        "spot": not settle,
        "swap": bool(settle),
        "contract": bool(settle),
        "linear": settle == quote if settle else None,
        "inverse": settle != quote if settle else None,
        "active": True,
        "precision": {"price": 0.01, "amount": 0.0001},
        "info": {},
    }
    session.exchange.set_markets([session.exchange.safe_market_structure(market)])
    reader.ledger.add_stream("trades", venue.symbol)
    return session
