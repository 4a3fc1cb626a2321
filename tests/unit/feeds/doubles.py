"""A tapped exchange without a network: markets made by hand, raw frames given to the real client's `handle_message`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import WSMessage, WSMsgType

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Intake
from ingestd.feeds.ccxt.session import CcxtSession
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.records import CHANNELS, Channel, FeedGap, MarketRecord

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

Kind = TypeVar("Kind")


class ListIntake:
    """Keeps what it is given; `room` is awaited before each read."""

    def __init__(self) -> None:
        self.records: list[MarketRecord | FeedGap] = []
        self.room = asyncio.Event()
        self.room.set()

    def put(self, record: MarketRecord | FeedGap) -> None:
        self.records.append(record)

    @property
    def is_blocked(self) -> bool:
        return not self.room.is_set()

    async def writable(self) -> None:
        await self.room.wait()

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The records of one kind, in the order of arrival."""
        return [record for record in self.records if isinstance(record, kind)]


def feed_config(exchange: str, symbols: Iterable[str], **changes: Any) -> FeedConfig:
    """A feed's configuration with every channel unless told otherwise."""
    return FeedConfig(exchange=exchange, symbols=list(symbols), **{"channels": list(CHANNELS), **changes})


def market(exchange: Any, symbol: str, market_id: str, **changes: Any) -> dict[str, Any]:
    """A market in ccxt's form. `BTC/USD:BTC` is an inverse swap, `BTC/USDT:USDT` a linear one."""
    pair, _, settle = symbol.partition(":")
    base, quote = pair.split("/")
    swap = bool(settle)
    linear = settle == quote if swap else None
    made = exchange.safe_market_structure(
        {
            "id": market_id,
            "symbol": symbol,
            "base": base,
            "quote": quote,
            "baseId": base,
            "quoteId": quote,
            "settle": settle or None,
            "settleId": settle or None,
            "type": "swap" if swap else "spot",
            "spot": not swap,
            "margin": False,
            "swap": swap,
            "future": False,
            "option": False,
            "contract": swap,
            "contractSize": 1.0 if swap else None,
            "linear": linear,
            "inverse": not linear if swap else None,
            "active": True,
            "precision": {"price": 0.01, "amount": 0.0001},
            "info": {},
            **changes,
        }
    )
    return dict(made)


class Wire:
    """One offline session of an exchange: `frames` goes through the real client into the intake."""

    def __init__(
        self, exchange: str, symbols: dict[str, str], url: str, *, into: Intake | None = None, **changes: Any
    ) -> None:
        self.intake = ListIntake()
        changes.setdefault("url_map", {"wss://named.by/the/test": url})  # a server of the venue, whatever it is
        self.reader = TapReader(feed_config(exchange, symbols, **changes), into or self.intake)
        self.recorder, self.ledger = self.reader.recorder, self.reader.ledger
        self.session = CcxtSession(self.reader.config, self.reader)
        self.exchange = self.session.exchange
        self.exchange.set_markets([market(self.exchange, name, market_id) for name, market_id in symbols.items()])
        for channel in CHANNELS:
            self.want(channel, *symbols)
        self.client = self.exchange.client(url)

    def want(self, channel: Channel, *symbols: str) -> None:
        """Ask for these streams, without a subscription."""
        for symbol in symbols:
            self.ledger.add_stream(channel, symbol)

    def frames(self, *frames: str | bytes) -> None:
        """Deliver the frames in one loop turn."""
        for frame in frames:
            kind = WSMsgType.TEXT if isinstance(frame, str) else WSMsgType.BINARY
            self.client.handle_message(WSMessage(kind, frame, None))

    async def close(self) -> None:
        await self.session.close()
