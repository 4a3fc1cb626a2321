"""A market that cannot be used is put aside by itself, and named: the venue's others are captured.

What is malformed here is what a careless or malicious venue may list; the sound markets beside it are as its documents
say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from ingestd.config.loading import parse
from ingestd.errors import ConfigError
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.ops.metrics import Metrics
from ingestd.records import Trade
from ingestd.status import Earlier
from tests.support.exposed import exposed
from tests.support.feeds import DECODERS, make_feed
from tests.support.list_venue import SPOT_ONLY, ListVenue, binance_spot, binance_trades, until
from tests.support.time_limits import cases
from tests.unit.feeds.doubles import ListIntake

LIST = "api.binance.com/api/v3/exchangeInfo"
BTC, ETH = binance_spot("BTCUSDT", "BTC"), binance_spot("ETHUSDT", "ETH")


def tick(size: Any) -> dict[str, Any]:
    filters = [{"filterType": "PRICE_FILTER", "tickSize": size}, {"filterType": "LOT_SIZE", "minQty": size}]
    return binance_spot("BADUSDT", "BAD", filters=filters)


MALFORMED: dict[str, Any] = {
    "NUL": binance_spot("BADUSDT", "B\0D"),
    "control character": binance_spot("BADUSDT", "B\x1b[2JD"),
    "newline in its id": binance_spot("BAD\nUSDT", "BAD"),
    "no base": {key: value for key, value in binance_spot("BADUSDT", "BAD").items() if key != "baseAsset"},
    "null base": binance_spot("BADUSDT", None),
    "base is a list": binance_spot("BADUSDT", ["B"]),
    "base is an object": binance_spot("BADUSDT", {"a": 1}),
    "base is blank": binance_spot("BADUSDT", "   "),
    "long base": binance_spot("BADUSDT", "\N{CJK UNIFIED IDEOGRAPH-5E01}" * 1900),
    "filters are null": binance_spot("BADUSDT", "B\0D", filters=None),
    "filters of nulls": binance_spot("BADUSDT", "BAD", filters=[None]),
    "no id": {key: value for key, value in binance_spot("BADUSDT", "BAD").items() if key != "symbol"},
    "null": None,
    "number": 17,
    "text": "BADUSDT",
    "list": [[[]]],
    "empty": {},
    "the id of another": binance_spot("ETHUSDT", "BAD"),
    "huge step": tick("1e400"),
}
IN_TEXT = {
    "half a surrogate pair": (json.dumps(binance_spot("BADUSDT", "B_D")), "B_D", "B\\ud800D"),
    "raw control character": (json.dumps(binance_spot("BADUSDT", "B_D")), "B_D", "B\x01D"),
    "number out of range": (json.dumps(binance_spot("BADUSDT", "B\0D", iceberg=7)), "7", "1e400"),
    "endless number": (json.dumps(binance_spot("BADUSDT", "B\0D", iceberg=7)), "7", "9" * 6000),
    "NaN": (json.dumps(binance_spot("BADUSDT", "B\0D", iceberg=7)), ": 7", ": NaN"),
}


def with_text(name: str) -> str:
    body, old, new = IN_TEXT[name]
    return f'{{"symbols": [{json.dumps(BTC)}, {body.replace(old, new, 1)}, {json.dumps(ETH)}]}}'


CASES: dict[str, Any] = {name: {"symbols": [BTC, market, ETH]} for name, market in MALFORMED.items()}
CASES |= {name: with_text(name) for name in IN_TEXT}
LIKE_OTHERS = [
    "control character",
    "no base",
    "base is an object",
    "base is blank",
    "filters are null",
    "number",
    "list",
    "empty",
    "raw control character",
    "number out of range",
    "NaN",
]
USUAL = [case for case in CASES if case not in LIKE_OTHERS]


@pytest.mark.parametrize(
    ("case", "decoder"), [*((case, "ccxt") for case in cases(USUAL, LIKE_OTHERS)), ("NUL", "native")]
)
async def test_the_others_are_captured(case: str, decoder: str) -> None:
    async with ListVenue({LIST: CASES[case], "fapi": {"symbols": []}, "dapi": {"symbols": []}}) as venue:
        venue.answer = binance_trades
        intake, metrics = ListIntake(), Metrics()
        feed = make_feed(venue.config("binance", ["*/USDT"]), decoder)
        with structlog.testing.capture_logs() as logged:
            task = asyncio.create_task(feed.run(intake))
            await until(lambda: {"BTC/USDT", "ETH/USDT"} <= {t.symbol for t in intake.of(Trade)}, of=task)
        metrics.watch_feed(feed.status)
        shown = exposed(metrics)
        await feed.close()
        await task
    assert {market.symbol for market in feed.markets()} == {"BTC/USDT", "ETH/USDT"}
    assert {trade.symbol for trade in intake.of(Trade)} == {"BTC/USDT", "ETH/USDT"}
    assert 'ingestd_feed_markets_put_aside{feed="binance"} 1.0' in shown
    (named,) = [entry["why"] for entry in logged if entry["event"] == "markets_put_aside"]
    (name,) = named
    assert name.isprintable()
    assert named[name]


SECOND: dict[str, Callable[[Any], tuple[Any, list[Any]]]] = {
    "binance": lambda body: (body, body["symbols"]),
    "bybit": lambda body: (body, body["result"]["list"]),
    "okx": lambda body: (body, body["data"]),
    "gate": lambda body: (body, body),
    "kucoin": lambda body: (body, body["data"]),
    "bitget": lambda body: (body, body["data"]),
    "mexc": lambda body: (body, body["symbols"]),
    "htx": lambda body: (body, body["data"]),
    "bingx": lambda body: (body, body["data"]["symbols"]),
    "poloniex": lambda body: (body, body),
    "lbank": lambda body: (body, body["data"]),
    "deepcoin": lambda body: (body, body["data"]),
}


def spoiled(market: dict[str, Any], how: str) -> Any:
    """The same market with each text of it spoiled."""
    if how == "null":
        return None
    value: Any = {"nulls": None, "numbers": 7, "lists": [], "NUL": "\0", "objects": {}}[how]
    return {key: value if isinstance(old, str) else old for key, old in market.items()}


@pytest.mark.parametrize("exchange", SECOND)
async def test_malformed_markets_stop_no_venue(exchange: str) -> None:
    part, sound = SPOT_ONLY[exchange]
    body, markets = SECOND[exchange](json.loads(json.dumps(sound)))
    markets[:0] = [spoiled(markets[0], how) for how in ("null", "nulls", "numbers", "lists", "NUL", "objects")]
    async with ListVenue({part: body}) as venue:
        feed = CcxtFeed(venue.config(exchange, ["BTC/USDT"]))
        task = asyncio.create_task(feed.run(ListIntake()))
        await until(lambda: any(s.symbol == "BTC/USDT" for s in feed.status().streams), of=task)
        status = feed.status()
        await feed.close()
        await task
    assert {market.symbol for market in feed.markets()} == {"BTC/USDT"}
    assert status.markets_put_aside > 0


@pytest.mark.parametrize("digits", [-2_000_000_000, 2_000_000_000])
async def test_a_step_of_milliards_of_digits_is_not_written_out(digits: int) -> None:
    """The exchange library writes 1e-precision digit by digit, for ever here, in the event loop."""
    part, sound = SPOT_ONLY["htx"]
    body, markets = SECOND["htx"](json.loads(json.dumps(sound)))
    another = json.loads(json.dumps(markets[0]).replace("BTC", "XYZ").replace("btc", "xyz"))
    markets.insert(0, {**another, "price-precision": digits, "tpp": digits})
    async with ListVenue({part: body}) as venue:
        feed = CcxtFeed(venue.config("htx", ["*/USDT"]))
        task = asyncio.create_task(feed.run(ListIntake()))
        await until(lambda: any(s.symbol == "BTC/USDT" for s in feed.status().streams), of=task)
        status = feed.status()
        await feed.close()
        await task
    assert {market.symbol for market in feed.markets()} == {"BTC/USDT"}
    assert status.markets_put_aside == 1


KRAKEN = {"altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "pair_decimals": 1,
          "lot_decimals": 8, "fees": [[0, 0.4]], "fees_maker": [[0, 0.2]], "leverage_buy": [], "leverage_sell": [],
          "ordermin": "0.0001", "costmin": "0.5", "tick_size": "0.1", "status": "online", "cost_decimals": 5,
          "lot_multiplier": 1}  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    cases(
        [[None, 5, {}, {**KRAKEN, "wsname": "\0/USD", "base": "\0"}]],
        [[None], [5], [{}], [{**KRAKEN, "wsname": "\0/USD", "base": "\0"}]],
    ),
)
async def test_markets_by_name_are_judged_one_by_one(bad: list[Any]) -> None:
    """Kraken's, which are no list: https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs"""
    spoiled_ones = {f"BAD{number}": market for number, market in enumerate(bad)}
    body = {"error": [], "result": {**spoiled_ones, "XXBTZUSD": KRAKEN}}
    async with ListVenue({"AssetPairs": body}) as venue:
        feed = CcxtFeed(venue.config("kraken", ["BTC/USD"]))
        task = asyncio.create_task(feed.run(ListIntake()))
        await until(lambda: any(s.symbol == "BTC/USD" for s in feed.status().streams), of=task)
        await feed.close()
        await task
    assert {market.symbol for market in feed.markets()} == {"BTC/USD"}


async def test_a_named_market_that_is_malformed_is_said_to_be_so_and_no_mistake_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingestd.feeds.ccxt.feed.NOTHING_LISTED_S", 0.01)
    monkeypatch.setattr("ingestd.retry.Backoff.next_s", lambda *_: 0.01)
    bad = {**ETH, "filters": [{"filterType": "PRICE_FILTER", "tickSize": "1e400"}]}
    async with ListVenue({LIST: {"symbols": [BTC, bad]}}) as venue:
        venue.answer = binance_trades
        intake = ListIntake()
        feed = CcxtFeed(venue.config("binance", ["ETH/USDT"]))
        task = asyncio.create_task(feed.run(intake))
        await until(lambda: any(s.quarantined for s in feed.status().streams), of=task)
        (aside,) = [s.quarantined for s in feed.status().streams if s.quarantined]
        assert "precision.price is no number" in aside
        venue.bodies[LIST] = {"symbols": [BTC, ETH]}
        await until(lambda: intake.of(Trade), of=task)
        await feed.close()
        await task


MANY = {"symbols": [binance_spot(f"C{number:05}USDT", f"C{number:05}") for number in range(300)]}


@pytest.mark.parametrize("decoder", DECODERS)
async def test_a_pattern_that_matches_too_much_is_bounded_and_says_so(decoder: str) -> None:
    async with ListVenue({LIST: MANY}) as venue:
        venue.answer = binance_trades
        intake = ListIntake()
        feed = make_feed(venue.config("binance", ["*/USDT", "C00299/USDT"], max_symbols=20), decoder)
        with structlog.testing.capture_logs() as logged:
            task = asyncio.create_task(feed.run(intake))
            await until(lambda: len({t.symbol for t in intake.of(Trade)}) == 20, of=task)
        status = feed.status()
        await feed.close()
        await task
    first = [f"C{number:05}/USDT" for number in range(19)]
    assert {trade.symbol for trade in intake.of(Trade)} == {*first, "C00299/USDT"}
    assert status.symbols_refused == 280
    assert status.problem == (
        "280 markets that match are not followed: max_symbols is 20; raise it, or narrow the patterns"
    )
    (said,) = [entry for entry in logged if entry["event"] == "too_many_symbols"]
    assert (said["match"], said["max_symbols"], said["refused"]) == (300, 20, 280)
    assert "raise max_symbols" in said["remedy"]


async def test_a_list_that_grows_takes_nothing_from_what_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a start after it: what an earlier process followed comes before what is new."""
    monkeypatch.setattr("ingestd.feeds.ccxt.session.RELIST_S", 0.05)
    old = {"symbols": MANY["symbols"][200:220]}
    async with ListVenue({LIST: old}) as venue:
        venue.answer = binance_trades
        intake = ListIntake()
        config = venue.config("binance", ["*/USDT"], max_symbols=20)
        feed = CcxtFeed(config)
        task = asyncio.create_task(feed.run(intake))
        await until(lambda: len({t.symbol for t in intake.of(Trade)}) == 20, of=task)
        followed = {trade.symbol for trade in intake.of(Trade)}
        venue.bodies[LIST] = MANY
        await until(lambda: feed.status().symbols_refused == 280, of=task)
        assert {stream.symbol for stream in feed.status().streams} == followed
        await feed.close()
        await task

        again = CcxtFeed(config, earlier={("binance", "trades", s): Earlier(1, "restart") for s in followed})
        task = asyncio.create_task(again.run(ListIntake()))
        await until(lambda: len(again.status().streams) == 20, of=task)
        assert {stream.symbol for stream in again.status().streams} == followed
        await again.close()
        await task


def test_more_names_than_max_symbols_are_a_mistake() -> None:
    feed = {"exchange": "binance", "symbols": ["A/USDT", "B/USDT", "C/USDT"], "max_symbols": 2}
    with pytest.raises(ConfigError, match="names 3 symbols, and max_symbols is 2"):
        parse({"feeds": [feed]}, {})


async def test_a_request_that_is_needed_and_fails_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nado's names follow from all of its lists."""
    waits: list[float] = []

    def next_s(*_: object) -> float:
        waits.append(60.0)
        return 60.0

    monkeypatch.setattr("ingestd.retry.Backoff.next_s", next_s)
    pairs = [{"product_id": 1, "ticker_id": "BTC_USDT0", "base": "BTC", "quote": "USDT0"}]
    async with ListVenue({"v2/pairs": pairs, "v2/assets": []}, status=500) as venue:
        feed = CcxtFeed(venue.config("nado", ["*"]))
        task = asyncio.create_task(feed.run(ListIntake()))
        await until(lambda: waits, of=task)
        requests = [asked.partition("?")[0] for asked in venue.requests]
        await feed.close()
        await task
    assert len(requests) == len(set(requests))


async def test_currencies_that_cannot_be_read_stop_no_market() -> None:
    part, body = SPOT_ONLY["gate"]
    async with ListVenue({part: body, "spot/currencies": [None, 5, {"currency": {}}]}) as venue:
        feed = CcxtFeed(venue.config("gate", ["BTC/USDT"]))
        task = asyncio.create_task(feed.run(ListIntake()))
        await until(lambda: any(s.symbol == "BTC/USDT" for s in feed.status().streams), of=task)
        await feed.close()
        await task


async def test_a_list_that_is_longer_than_any_stops_nobody_and_no_other_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads a list in one turn of the loop: a hundred thousand markets would take it half a minute."""
    monkeypatch.setattr("ingestd.feeds.ccxt.market_answers.MOST_ENTRIES", 250)
    async with ListVenue({LIST: {"symbols": [BTC]}, "fapi": MANY, "dapi": {"symbols": []}}) as venue:
        venue.answer = binance_trades
        intake = ListIntake()
        feed = CcxtFeed(venue.config("binance", ["*"]))
        task = asyncio.create_task(feed.run(intake))
        await until(lambda: intake.of(Trade), of=task)
        problem = feed.status().problem or ""
        await feed.close()
        await task
    assert "list of linear markets cannot be had" in problem
    assert "it lists more than any venue has" in problem


async def test_pages_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bybit names the next page in each: https://bybit-exchange.github.io/docs/v5/market/instrument"""
    monkeypatch.setattr("ingestd.feeds.ccxt.market_answers.MOST_REQUESTS", 12)
    monkeypatch.setattr("ingestd.feeds.ccxt.tap.BASE_CONFIG", {"enableRateLimit": False, "newUpdates": True})
    part, spot = SPOT_ONLY["bybit"]
    linear = {**spot["result"]["list"][0], "contractType": "LinearPerpetual", "settleCoin": "USDT"}
    page = {"category": "linear", "list": [linear], "nextPageCursor": "on"}
    endless = {"retCode": 0, "retMsg": "OK", "result": page}
    async with ListVenue({part: spot, "category=linear": endless}) as venue:
        feed = CcxtFeed(venue.config("bybit", ["BTC/USDT"]))
        task = asyncio.create_task(feed.run(ListIntake()))
        await until(lambda: any(s.symbol == "BTC/USDT" for s in feed.status().streams), of=task)
        await feed.close()
        await task
