"""Any records, flushed anyhow, to a server that forgets anyhow: channels equal the input, caches the model."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.records import BookSnapshot, Liquidation, MarketRecord, Tick, Trade
from ingestd.sinks.redis.view import View
from tests.support.records import market_records
from tests.support.redis_model import RedisModel


def exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def expected_message(record: MarketRecord) -> tuple[str, dict[str, Any]] | None:
    """Channel and content, without the time."""
    name = record.symbol.replace("/", "")
    if isinstance(record, Tick):
        return f"market_data:{name}", {
            "symbol": name, "exchange": "binance", "bidPrice": number(record.bid_price),
            "askPrice": number(record.ask_price), "bidVolume": number(record.bid_volume),
            "askVolume": number(record.ask_volume),
        }  # fmt: skip
    if isinstance(record, Trade):
        return f"trades:binance:{name}", {
            "symbol": name, "exchange": "binance", "tradeId": record.trade_id, "side": record.side,
            "price": number(record.price), "quantity": number(record.quantity),
            **({} if record.kind is None else {"kind": record.kind, "inCandles": True}),
        }  # fmt: skip
    if isinstance(record, Liquidation):
        return f"liquidations:binance:{name}", {
            "symbol": name, "exchange": "binance", "side": record.side, "price": number(record.price),
            "quantity": number(record.quantity), "orderId": record.order_id,
        }  # fmt: skip
    return None


def remember(hashes: dict[str, dict[str, Any]], record: MarketRecord) -> None:
    """What the hashes hold after this record, written from the documents' key patterns."""
    name = record.symbol.replace("/", "")
    market = f"market:binance:{name}"
    if isinstance(record, Tick):
        sides = {"bidPrice": record.bid_price or "", "askPrice": record.ask_price or "", "exchange": "binance"}
        hashes[f"market:tick:{name}"] = sides
        hashes.setdefault(market, {}).update(bid=record.bid_price or "", ask=record.ask_price or "")
    elif isinstance(record, Trade):
        hashes[f"price:binance:{name}"] = {"price": record.price, "volume": record.quantity}
        hashes.setdefault(market, {}).update(price=record.price, volume=record.quantity)
    elif isinstance(record, BookSnapshot):
        hashes[f"orderbook:binance:{name}"] = {
            "bids": [[Decimal(text) for text in level] for level in record.bids],
            "asks": [[Decimal(text) for text in level] for level in record.asks],
            "valid": "true" if record.valid else "false",
        }


def shown(hashes: dict[str, dict[str, str]]) -> dict[str, dict[str, Any]]:
    return {
        key: {
            name: exact(value) if name in ("bids", "asks") else value
            for name, value in fields.items()
            if name != "timestamp"
        }
        for key, fields in hashes.items()
    }


@given(steps=st.lists(st.tuples(market_records(), st.sampled_from(["", "", "flush", "forget"])), max_size=40))
def test_channels_equal_the_input_and_caches_the_model(steps: list[tuple[MarketRecord, str]]) -> None:
    view = View(lambda _exchange, symbol: symbol.replace("/", ""), primary_exchange="binance", candles_kept=60)
    server = RedisModel()
    hashes: dict[str, dict[str, Any]] = {}
    messages = []

    def flush() -> None:
        while not view.is_clean:
            for command in view.cache_commands(1.0, 3):
                assert server.carry_out(command.packed) == command.count
        assert shown(server.hashes) == hashes

    for record, then in [*steps]:
        command = view.take(record, 1.0)
        if command is not None:
            server.carry_out(command.packed)
        if (message := expected_message(record)) is not None:
            messages.append(message)
        remember(hashes, record)
        if then == "forget":
            server.hashes.clear()
            server.lists.clear()
            view.refill(1.0)
        if then:
            flush()
    flush()
    without_time = [
        (channel, {key: value for key, value in exact(text).items() if key != "timestamp"})
        for channel, text in server.messages
    ]
    assert without_time == messages
    assert set(server.ttl.values()) <= {60, 3600}
