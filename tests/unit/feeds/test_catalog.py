"""What `check` says about feeds without a connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingestd.feeds.catalog import check, offer, pointless
from ingestd.venues.all import native_venue
from ingestd.venues.venue import Asked
from tests.unit.feeds.doubles import feed_config


def test_a_misspelt_exchange_is_named_with_the_nearest() -> None:
    (problem,) = check([feed_config("okx", ["*"], channels=["trades"]), feed_config("binanse", ["*"])])

    assert problem.path == "feeds[1].exchange"
    assert problem.hint == 'did you mean "binance"? `ingestd exchanges` lists them'


def test_a_channel_the_exchange_lacks() -> None:
    (problem,) = check([feed_config("coinbase", ["*"], channels=["trades", "candles"])])

    assert problem.path == "feeds[0].channels[1]"
    assert problem.hint == "it offers ticks, trades, order_book"


def test_a_stream_of_changes_that_the_library_takes_for_whole_books_is_refused() -> None:
    """https://coincheck.com/documents/exchange/api#websocket-order-book: each message has the levels that changed."""
    (problem,) = check([feed_config("coincheck", ["BTC/JPY"], channels=["trades", "order_book"])])

    assert (problem.path, problem.hint) == ("feeds[0].channels[1]", "it offers trades")


def test_an_unknown_url_prefix_is_no_mistake() -> None:
    assert check([feed_config("okx", ["*"], channels=["trades"], url_map={"wss://other.example": "ws://here"})]) == []


def test_a_native_decoder_that_there_is_none_of_is_a_mistake_that_names_those_there_are() -> None:
    feeds = [feed_config(exchange, ["*"], channels=["trades"], decoder="native") for exchange in ("binance", "gate")]

    (problem,) = check(feeds)

    assert (problem.path, problem.value) == ("feeds[1].decoder", "'native'")
    assert "binance" in (problem.hint or "")
    assert "okx" in (problem.hint or "")


def test_a_native_decoder_that_serves_none_of_the_channels_is_a_mistake() -> None:
    (problem,) = check([feed_config("binance", ["*"], channels=["open_interest"], decoder="native")])

    assert problem.path == "feeds[0].decoder"


def test_where_there_is_a_decoder_of_ours_it_is_taken_unless_ccxt_is_asked_for() -> None:
    def venue(exchange: str, **changes: Any) -> Any:
        return native_venue(feed_config(exchange, ["*"], **{"channels": ["trades", "candles"], **changes}))

    assert venue("binance").exchange == "binance"
    assert venue("binance", decoder="ccxt") is None
    assert venue("gate") is None
    assert venue("binance", channels=["candles"]) is None
    aggregates = {"watchTradesForSymbols": {"name": "aggTrade"}}
    (message,) = venue("binance", options=aggregates).subscribe([Asked("trades", "BTCUSDT")], 1)
    assert b"btcusdt@aggTrade" in message


def test_a_stream_that_only_ccxt_knows_is_left_to_it() -> None:
    options = {"watchOrderBookRate": "1000"}
    venue = native_venue(feed_config("binance", ["*"], options=options))

    assert venue is not None
    assert "order_book" not in venue.channels
    assert "trades" in venue.channels


def test_a_channel_that_the_venue_has_of_other_markets_only_is_a_mistake_by_name_and_by_pattern() -> None:
    for symbol in ("BTC/USDT", "*/USDT"):
        (problem,) = check([feed_config("bitrue", [symbol], channels=["order_book", "trades"])])
        assert problem.path == "feeds[0].channels[1]"
        assert problem.message == f"bitrue has no such channel of spot markets, as {symbol} is"
    for symbol in ("BTC/USDT:USDT", "*:USDT", "BTC/*"):
        assert check([feed_config("bitrue", [symbol], channels=["order_book", "trades"])]) == []


def test_what_the_exchange_library_is_left_with_in_a_native_feed_is_looked_at_too() -> None:
    """https://bybit-exchange.github.io/docs/v5/market/kline: options have no candles."""
    symbol = "BTC/USDT:USDT-261225-100000-C"
    (problem,) = check([feed_config("bybit", [symbol], channels=["trades", "candles"])])
    assert problem.message == f"bybit has no such channel of option markets, as {symbol} is"


def test_candles_that_the_venue_has_over_rest_only_are_a_mistake() -> None:
    (problem,) = check([feed_config("upbit", ["BTC/KRW"], channels=["candles"])])
    assert (problem.path, problem.value, problem.hint) == ("feeds[0].candle_timeframe", "'1m'", "it has 1s")


def test_public_streams_that_want_a_key_are_a_mistake_without_one(tmp_path: Path) -> None:
    (problem,) = check([feed_config("coinbaseexchange", ["*"], channels=["trades", "order_book"], decoder="ccxt")])
    assert problem.path == "feeds[0].channels[1]"
    assert "with an API key only" in problem.message
    key = tmp_path / "key.toml"
    key.write_text('apiKey = "a"\nsecret = "b"\n', encoding="utf-8")
    assert check([feed_config("luno", ["*"], channels=["trades"], credentials_file=key)]) == []
    assert check([feed_config("coinbaseexchange", ["*"], channels=["trades", "order_book"])]) == []  # read natively


def test_a_channel_that_only_native_decoders_have_names_the_exchanges() -> None:
    (problem,) = check([feed_config("gate", ["BTC/USDT:USDT"], channels=["trades", "liquidations"])])

    assert (problem.path, problem.message) == ("feeds[0].channels[1]", "is read by native decoders only")
    assert problem.hint == "exchanges that have it: binance, binancecoinm, binanceusdm, bybit, okx"


def test_a_channel_that_the_native_decoder_has_is_not_there_through_ccxt() -> None:
    wanted = {"channels": ["trades", "mark_prices"]}
    assert check([feed_config("bybit", ["BTC/USDT:USDT"], **wanted)]) == []
    assert check([feed_config("bybit", ["BTC/USDT:USDT"], **wanted, decoder="native")]) == []

    (problem,) = check([feed_config("bybit", ["BTC/USDT:USDT"], **wanted, decoder="ccxt")])

    assert problem.message == "bybit has it through its native decoder only"
    assert problem.hint == 'use decoder = "auto"'


def test_a_channel_of_contracts_means_nothing_for_spot() -> None:
    (problem,) = pointless([feed_config("binance", ["BTC/USDT"], channels=["trades", "liquidations"])])

    assert problem.path == "feeds[0].channels[1]"
    assert "perpetual and dated contracts only" in problem.message


def test_what_an_exchange_offers_says_which_decoder_and_what_is_a_sample() -> None:
    okx, bybit, gate = offer("okx"), offer("bybit"), offer("gate")

    assert (okx.channels["liquidations"], okx.channels["mark_prices"]) == ("native", "native")
    assert list(okx.sampled) == ["liquidations"]
    assert bybit.channels["liquidations"] == "native"
    assert list(bybit.sampled) == []
    assert "liquidations" not in gate.channels
