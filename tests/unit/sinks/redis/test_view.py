"""The live view: conflation, times to live, the primary exchange, refills."""

from __future__ import annotations

import json

import pytest

from ingestd.records import Liquidation, MarkPrice, OpenInterest
from ingestd.sinks.redis.orders import MAX_ORDERS_KEPT
from ingestd.sinks.redis.view import View
from ingestd.venues.symbol_names import compact_symbol
from tests.support.records import NOW_US, book, tick, trade
from tests.support.redis_model import RedisModel


def view(primary: str = "binance") -> View:
    return View(compact_symbol, primary_exchange=primary, candles_kept=3)


def written(seen: View, now_s: float = 100.0, model: RedisModel | None = None) -> RedisModel:
    model = model or RedisModel()
    for command in seen.cache_commands(now_s, 100_000):
        assert model.carry_out(command.packed) == command.count
    return model


def test_a_liquidation_is_published_on_its_own_channel_and_in_no_cache() -> None:
    seen = view()
    record = Liquidation("okx", "BTC/USDT:USDT", NOW_US, NOW_US, "sell", "9910.50", "13", 'a"b')
    command = seen.take(record, 100.0)
    assert command is not None
    model = RedisModel()
    model.carry_out(command.packed)
    ((channel, message),) = model.messages
    assert channel == "liquidations:okx:BTCUSDT.P"
    assert message == (
        '{"symbol":"BTCUSDT.P","exchange":"okx","side":"sell","price":9910.50,"quantity":13,"orderId":"a\\"b",'
        '"timestamp":"2026-09-21T14:13:20.000000Z"}'
    )
    assert seen.is_clean


def test_a_mark_price_is_not_published() -> None:
    seen = view()
    assert seen.take(MarkPrice("okx", "BTC/USDT:USDT", NOW_US, NOW_US, "1"), 100.0) is None
    assert seen.is_clean


def test_caches_get_the_last_value_once() -> None:
    seen = view()
    for number in range(1, 6):
        seen.take(tick(number, bid_price=str(number)), 100.0)
        seen.take(book(number), 100.0)
        seen.take(trade(number, price=str(number)), 100.0)
    commands = seen.cache_commands(100.0, 1000)
    assert len(commands) == 5
    model = RedisModel()
    for command in commands:
        model.carry_out(command.packed)
    assert model.hashes["market:tick:BTCUSDT"]["bidPrice"] == "5"
    assert model.hashes["price:binance:BTCUSDT"]["price"] == "5"
    assert set(model.ttl.items()) == {
        ("market:tick:BTCUSDT", 60), ("market:binance:BTCUSDT", 60), ("price:binance:BTCUSDT", 60),
        ("orderbook:binance:BTCUSDT", 60), ("candle:binance:BTCUSDT:1m", 3600),
    }  # fmt: skip
    assert seen.is_clean
    assert seen.cache_commands(100.0, 1000) == []


def test_what_the_venue_leaves_out_of_its_candles_is_published_and_in_no_cache() -> None:
    seen = view()
    seen.take(trade(1, price="5"), 100.0)
    left_out = seen.take(trade(2, price="9", kind="insurance_fund", in_candles=False), 100.0)
    kept = seen.take(trade(3, price="6", kind="rpi"), 100.0)
    model = written(seen)
    assert left_out is not None
    assert kept is not None
    assert b'"kind":"insurance_fund","inCandles":false}' in left_out.packed
    assert b'"kind":"rpi","inCandles":true}' in kept.packed
    assert model.hashes["price:binance:BTCUSDT"]["price"] == "6"
    (candle,) = [json.loads(text) for text in model.lists["candle:binance:BTCUSDT:1m"]]
    assert (candle["open"], candle["high"], candle["tradesCount"]) == (5, 6, 2)


def test_a_market_that_had_no_other_trade_has_no_price() -> None:
    seen = view()
    assert seen.take(trade(1, kind="adl", in_candles=False), 100.0) is not None
    assert written(seen).hashes == {}


def test_keys_without_an_exchange_take_the_primary_one() -> None:
    seen = view()
    assert seen.take(tick(1, exchange="kraken"), 1.0) is None
    assert set(written(seen).hashes) == {"market:kraken:BTCUSDT"}
    command = seen.take(tick(1), 1.0)
    assert command is not None
    assert command.key == b"market_data:BTCUSDT"


def test_what_nobody_shows_is_not_published() -> None:
    assert view().take(OpenInterest("binance", "BTC/USDT", NOW_US, NOW_US, "1"), 1.0) is None


def test_a_record_that_cannot_be_written_is_not_remembered() -> None:
    seen = view()
    seen.take(trade(1), 1.0)
    for record in (trade(2, price="NaN"), tick(2, bid_price="x"), book(2, bids=(("1", "NaN"),)), trade(3, price="")):
        with pytest.raises(ValueError, match=r"not a number|without price"):
            seen.take(record, 1.0)
    assert set(written(seen).hashes) == {"price:binance:BTCUSDT", "market:binance:BTCUSDT"}


def test_a_refill_writes_what_would_still_be_alive_with_the_time_it_has_left() -> None:
    seen = view()
    seen.take(tick(1), 100.0)
    seen.take(trade(1), 130.0)
    written(seen, 130.0)
    seen.refill(150.0)
    model = written(seen, 150.0)
    assert model.ttl["market:tick:BTCUSDT"] == 10
    assert model.ttl["price:binance:BTCUSDT"] == 40
    assert model.ttl["market:binance:BTCUSDT"] == 40
    assert model.ttl["candle:binance:BTCUSDT:1m"] == 3600
    seen.refill(175.0)
    assert "market:tick:BTCUSDT" not in written(seen, 175.0).hashes


def test_changes_wait_for_room_in_order() -> None:
    seen = view()
    for number in range(10):
        seen.take(tick(number, symbol=f"S{number}/USDT"), 1.0)
    first = seen.cache_commands(1.0, 4)
    assert [command.key for command in first] == [b"market:tick:S0USDT", b"market:binance:S0USDT"]
    assert not seen.is_clean
    assert len(seen.cache_commands(1.0, 1000)) == 18


def test_orders_are_merged_and_bounded() -> None:
    seen = view()
    seen.take_order("1", {"symbol": "BTCUSDT", "status": "NEW"}, 0.0)
    seen.take_order("1", {"status": "FILLED"}, 0.0)
    model = written(seen, 0.0)
    assert model.hashes["order:1"] == {"symbol": "BTCUSDT", "status": "FILLED"}
    assert model.ttl["order:1"] == 3600
    assert all(seen.take_order(str(number), {"status": "NEW"}, 1.0) for number in range(MAX_ORDERS_KEPT))
    assert not seen.take_order("one more", {"status": "NEW"}, 1.0)
    assert seen.take_order("0", {"status": "FILLED"}, 1.0)


def test_a_refill_writes_the_orders_that_would_still_be_alive() -> None:
    seen = view()
    seen.take_order("old", {"status": "NEW"}, 0.0)
    seen.take_order("changed", {"status": "NEW"}, 0.0)
    seen.take_order("changed", {"status": "FILLED"}, 1000.0)
    written(seen, 1000.0)
    assert seen.cache_commands(1000.0, 10) == []
    seen.refill(3700.0)
    assert not seen.is_clean
    model = written(seen, 3700.0)
    assert model.hashes == {"order:changed": {"status": "FILLED"}}
    assert model.ttl == {"order:changed": 900}
    seen.refill(3700.0)
    assert "order:changed" in written(seen, 3700.0).hashes, "every refill writes it, not only the first"
    seen.refill(5000.0)
    assert written(seen, 5000.0).hashes == {}


def test_the_orders_kept_for_a_refill_are_those_that_changed_last() -> None:
    seen = view()
    for number in range(MAX_ORDERS_KEPT + 5):
        assert seen.take_order(str(number), {"status": "NEW"}, float(number) / 1000)
        seen.cache_commands(20.0, 10)
    seen.refill(20.0)
    again = set(written(seen, 20.0).hashes)
    assert len(again) == MAX_ORDERS_KEPT
    assert not again & {f"order:{number}" for number in range(5)}


def test_orders_that_another_daemon_keeps_now_are_not_written_again() -> None:
    seen = view()
    seen.take_order("written", {"status": "NEW"}, 0.0)
    written(seen, 0.0)
    seen.take_order("waiting", {"status": "NEW"}, 0.0)
    seen.forget_orders()
    seen.refill(1.0)
    assert set(written(seen, 1.0).hashes) == {"order:waiting"}
