"""The candle lists: what is built from trades, and that the commands bring the server's list to it."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ingestd.clock import iso_text
from ingestd.records import Candle
from ingestd.sinks.redis import payloads
from ingestd.sinks.redis.candles import MINUTE_US, RecentCandles
from tests.support.records import NOW_US, trade
from tests.support.redis_model import RedisModel, parsed

START = NOW_US - NOW_US % MINUTE_US
HEAD = payloads.head("BTCUSDT", "binance")


def recent(kept: int = 60) -> RecentCandles:
    return RecentCandles(b"candle:k", HEAD, kept)


def names(commands: list[bytes]) -> list[str]:
    return [command[0].decode() for packed in commands for command in parsed(packed)]


def test_a_minute_of_trades() -> None:
    candles, model = recent(), RedisModel()
    for number, price, quantity in [(2, "10.0", "1"), (1, "9.5", "2.00"), (3, "11", "0.5"), (4, "10.5", "1")]:
        candles.add(trade(number, time=START + number, price=price, quantity=quantity))
    model.carry_out(b"".join(candles.commands()))
    candle = json.loads(model.lists["candle:k"][0], parse_float=Decimal, parse_int=Decimal)
    assert candle == {
        "symbol": "BTCUSDT", "exchange": "binance", "interval": "1m", "timestamp": iso_text(START),
        "open": Decimal("9.5"), "high": Decimal(11), "low": Decimal("9.5"), "close": Decimal("10.5"),
        "volume": Decimal("4.50"), "quoteVolume": Decimal("45.0"), "tradesCount": Decimal(4), "source": "trades",
    }  # fmt: skip
    assert model.ttl["candle:k"] == 3600


amounts = st.sampled_from(["1", "2.50", "0.003", "1e2", "5E-3", "0", "100.0"])


def test_contracts_are_worth_what_they_are_contracts_of() -> None:
    """7 contracts of 100 USD, 3 of 0.01 BTC at 40000 each, 2 USD, and a base currency's own 2 at 10."""
    candles, model = recent(), RedisModel()
    rows = [("7", "40000", "100 quote"), ("3", "40000", "0.01 base"), ("2", "1", "quote"), ("2", "10", None)]
    for number, (quantity, price, unit) in enumerate(rows):
        candles.add(trade(number, time=START + number, price=price, quantity=quantity, unit=unit))
    model.carry_out(b"".join(candles.commands()))
    candle = json.loads(model.lists["candle:k"][0], parse_float=Decimal)
    assert (candle["volume"], candle["quoteVolume"]) == (14, 700 + Decimal("1200.00") + 2 + 20)
    candles.add(trade(9, time=START + 9, unit="unknown"))
    candles.add(trade(10, time=START + 10))
    model.carry_out(b"".join(candles.commands()))
    assert json.loads(model.lists["candle:k"][0])["quoteVolume"] is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), amounts, amounts, st.booleans()), min_size=1))
def test_any_minute_reads_as_if_every_trade_had_been_added_up(trades: list[tuple[int, int, str, str, bool]]) -> None:
    """Digit for digit, trailing zeros too, also when the list was written in between."""
    candles, model = recent(), RedisModel()
    for offset, seq, price, quantity, written in trades:
        candles.add(trade(1, time=START + offset, seq=seq, price=price, quantity=quantity))
        if written:
            model.carry_out(b"".join(candles.commands()))
    model.carry_out(b"".join(candles.commands()))
    volume = value = Decimal(0)
    for _, _, price, quantity, _ in trades:
        volume += Decimal(quantity)
        value += Decimal(price) * Decimal(quantity)
    prices = [Decimal(price) for _, _, price, _, _ in trades]
    first = min(enumerate(trades), key=lambda item: (item[1][0], item[1][1], item[0]))[1]
    last = max(enumerate(trades), key=lambda item: (item[1][0], item[1][1], item[0]))[1]
    # Of equal prices written differently any may stand for the highest or lowest.
    text = model.lists["candle:k"][0]
    assert f'"volume":{volume:f},"quoteVolume":{value:f},"tradesCount":{len(trades)},' in text
    assert f'"open":{Decimal(first[2]):f},' in text
    assert f'"close":{Decimal(last[2]):f},' in text
    candle = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    assert (candle["high"], candle["low"]) == (max(prices), min(prices))


def test_trades_of_one_instant_are_ordered_by_seq() -> None:
    candles, model = recent(), RedisModel()
    for seq, price in [(7, "3"), (5, "1"), (9, "4"), (6, "2")]:
        candles.add(trade(1, time=START, seq=seq, price=price))
    model.carry_out(b"".join(candles.commands()))
    candle = json.loads(model.lists["candle:k"][0])
    assert (candle["open"], candle["close"]) == (1, 4)


def test_only_what_changed_is_sent() -> None:
    candles = recent()
    candles.add(trade(1, time=START))
    assert names(candles.commands()) == ["LPUSH", "LTRIM", "EXPIRE"]
    candles.add(trade(2, time=START + 1))
    assert names(candles.commands()) == ["LSET", "EXPIRE"]
    candles.add(trade(3, time=START + MINUTE_US))
    assert names(candles.commands()) == ["LPUSH", "LTRIM", "EXPIRE"]
    candles.distrust()
    assert names(candles.commands()) == ["LPUSH", "LTRIM", "EXPIRE"]


def test_the_exchanges_own_candles_replace_the_built_ones() -> None:
    candles, model = recent(), RedisModel()
    candles.add(trade(1, time=START))
    candles.add(trade(2, time=START + MINUTE_US))
    model.carry_out(b"".join(candles.commands()))
    candles.report(Candle("binance", "BTC/USDT", START, START, "1m", "1", "1", "1", "1", "5"))
    assert not candles.add(trade(3, time=START))
    model.carry_out(b"".join(candles.commands()))
    assert [json.loads(text)["source"] for text in model.lists["candle:k"]] == ["exchange"]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 9), st.integers(1, 5), st.sampled_from(["write", "more", "lost"])), max_size=40
    ),
    kept=st.integers(1, 4),
)
def test_the_servers_list_is_ours_after_every_write(steps: list[tuple[int, int, str]], kept: int) -> None:
    """Late trades, new minutes, and a server that lost or kept the list: newest first, never more than kept."""
    candles, model = recent(kept), RedisModel()
    counts: dict[int, int] = {}
    for number, (minute, size, then) in enumerate(steps):
        if candles.add(trade(number, time=START + minute * MINUTE_US, quantity=str(size))):
            counts[minute] = counts.get(minute, 0) + 1
            counts = dict(sorted(counts.items(), reverse=True)[:kept])
        if then == "more":
            continue
        if then == "lost":
            model.lists.clear()
            candles.distrust()
        model.carry_out(b"".join(candles.commands()))
        shown = [json.loads(text) for text in model.lists.get("candle:k", [])]
        assert [(candle["timestamp"], candle["tradesCount"]) for candle in shown] == [
            (iso_text(START + minute * MINUTE_US), count) for minute, count in counts.items()
        ]
