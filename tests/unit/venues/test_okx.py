"""OKX: its frames, requests and the order of its book changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import Funding, Tick, Trade
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.okx import Okx
from ingestd.venues.venue import Asked, Venue

SYMBOLS = {"BTC-USDT": "BTC/USDT", "BTC-USDT-SWAP": "BTC/USDT:USDT"}
AT = 1_790_000_000_000_123
SENT = "1789999999999"
TIME = 1_789_999_999_999_000


def decoded(document: Any) -> list[Message]:
    frame = document if isinstance(document, bytes) else json.dumps(document).encode()
    return list(Okx({}).decoder(SYMBOLS, 0)(frame, AT))


def data(channel: str, *rows: dict[str, Any], market: str = "BTC-USDT", **more: Any) -> dict[str, Any]:
    return {"arg": {"channel": channel, "instId": market}, **more, "data": list(rows)}


def trade(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "instId": "BTC-USDT",
        "tradeId": str(number),
        "px": "10.10",
        "sz": "2.0",
        "side": "buy",
        "ts": SENT,
        **changes,
    }


def book(**changes: Any) -> dict[str, Any]:
    sides = {"asks": [["10.2", "1", "0", "1"]], "bids": [["10.10", "0", "0", "0"]]}
    return {**sides, "ts": SENT, "checksum": 0, "prevSeqId": 5, "seqId": 7, **changes}


def test_trades_in_their_order_with_their_text() -> None:
    assert decoded(data("trades", trade(7), trade(9, side="sell", px="10.1"))) == [
        Trade("okx", "BTC/USDT", TIME, AT, "7", 7, "buy", "10.10", "2.0"),
        Trade("okx", "BTC/USDT", TIME, AT, "9", 9, "sell", "10.1", "2.0"),
    ]


def test_a_trade_without_a_side() -> None:
    (found,) = decoded(data("trades", trade(7, side="")))

    assert isinstance(found, Trade)
    assert found.side is None


def test_the_best_price_has_none_where_a_side_is_empty() -> None:
    row = {"asks": [["10.20", "3", "0", "1"]], "bids": [], "ts": SENT, "seqId": 1}

    assert decoded(data("bbo-tbt", row)) == [Tick("okx", "BTC/USDT", TIME, AT, None, None, "10.20", "3")]
    assert decoded(data("bbo-tbt", {**row, "asks": []})) == []


def test_the_best_price_of_a_ticker() -> None:
    row = {"instId": "BTC-USDT", "bidPx": "10.1", "bidSz": "2.50", "askPx": "", "askSz": "", "last": "9", "ts": SENT}

    assert decoded(data("tickers", row)) == [Tick("okx", "BTC/USDT", TIME, AT, "10.1", "2.50", None, None)]
    assert decoded(data("tickers", {**row, "bidPx": ""})) == []


def test_a_book_and_its_change() -> None:
    (whole,) = decoded(data("books", book(prevSeqId=-1, checksum=-855196043), action="snapshot"))
    (change,) = decoded(data("books", book(), action="update"))

    assert isinstance(whole, BookChange)
    assert isinstance(change, BookChange)
    assert (whole.is_snapshot, whole.previous, whole.last, whole.checksum) == (True, None, 7, -855196043)
    assert (change.is_snapshot, change.previous, change.last, change.checksum) == (False, 5, 7, None)
    assert [tuple(row[:2]) for row in change.asks] == [("10.2", "1")]
    assert (change.symbol, change.time, change.received_at) == ("BTC/USDT", TIME, AT)


def test_five_levels_are_a_whole_book() -> None:
    (found,) = decoded(data("books5", book()))

    assert isinstance(found, BookChange)
    assert found.is_snapshot


def test_funding_is_annualised_over_its_interval() -> None:
    row = {"instId": "BTC-USDT-SWAP", "fundingRate": "0.0001", "fundingTime": "1790006400000"}
    (found,) = decoded(data("funding-rate", {**row, "nextFundingTime": "1790035200000"}, market="BTC-USDT-SWAP"))

    assert isinstance(found, Funding)
    assert (found.time, found.next_funding_time) == (AT, 1_790_006_400_000_000)
    assert float(found.annualised_rate or 0) == pytest.approx(0.0001 * 3 * 365)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b"pong", [Notice("heartbeat")]),
        (
            {"event": "subscribe", "arg": {"channel": "trades", "instId": "BTC-USDT"}, "connId": "a4d3ae55"},
            [Notice("subscribed", "trades", "BTC-USDT")],
        ),
        (
            {"event": "unsubscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}},
            [Notice("unsubscribed", "books", "BTC-USDT")],
        ),
        (
            {
                "event": "error",
                "code": "60018",
                "msg": "Wrong URL or channel:trades,instId:BTC-NO doesn't exist. Please use the correct URL",
            },
            [
                Notice(
                    "refused",
                    "60018: Wrong URL or channel:trades,instId:BTC-NO doesn't exist. Please use the correct URL",
                    "BTC-NO",
                )
            ],
        ),
        (
            {"event": "error", "code": "60012", "msg": 'Illegal request: {"op":"x","args":[{"instId":"BTC-USDT"}]}'},
            [Notice("refused", '60012: Illegal request: {"op":"x","args":[{"instId":"BTC-USDT"}]}', None)],
        ),
        (
            {"event": "notice", "code": "64008", "msg": "The connection will soon be closed", "connId": "a4d3ae55"},
            [Notice("restarting", "The connection will soon be closed")],
        ),
        ({"event": "notice", "code": "1", "msg": "news"}, []),
        ({"event": "login", "code": "0", "msg": ""}, []),
        (data("candle1m", {"whatever": 1}), []),
        (data("trades", trade(7), market="ETH-USDT"), []),
    ],
)
def test_events_and_what_is_left_out(frame: Any, expected: list[Notice]) -> None:
    assert decoded(frame) == expected


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"ping",
        b"[]",
        b"{}",
        b'{"arg":{"channel":"trades","instId":"BTC-USDT"}}',
        b'{"arg":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000,
        {"event": "no such event"},
        data("trades", trade(7), trade(8, px="")),
        data("trades", trade(7), {"tradeId": "8", "px": "1", "sz": "1"}),
        data("trades", trade(7, tradeId="")),
        data("trades", trade(7, px=10.1)),
        data("trades", trade(7, ts="0")),
        data("trades", trade(7, ts="now")),
        data("trades", trade(7, ts="99999999999999999999")),
        data("bbo-tbt", {"asks": [["10.2"]], "bids": [], "ts": SENT}),
        data("books", book()),
        data("books", book(), action="no such action"),
        data("books", book(asks=[["10.2"]]), action="update"),
        data("funding-rate", {"fundingRate": "1", "fundingTime": "soon"}),
    ],
)
def test_what_is_not_documented_is_refused_whole(frame: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's
        decoded(frame)


def change(previous: int | None, last: int | None) -> BookChange:
    return BookChange("BTC/USDT", 0, 0, (), (), previous=previous, last=last)


@pytest.mark.parametrize(
    ("previous", "last", "sequence", "follows"),
    [
        (5, 7, 5, True),
        (5, 5, 5, True),  # nothing changed for a minute
        (5, 3, 5, True),  # maintenance: the numbers begin lower
        (6, 7, 5, False),
        (4, 5, 5, False),
        (5, 7, None, False),
        (None, None, None, True),  # before the venue numbered them
    ],
)
def test_how_changes_follow(previous: int | None, last: int | None, sequence: int | None, follows: bool) -> None:
    assert Okx.book_rule.follows(change(previous, last), sequence) is follows


def requests(venue: Okx, *streams: Asked) -> list[Any]:
    return [json.loads(message) for message in venue.subscribe(streams, 1)]


def test_it_asks_for_the_streams_that_ccxt_asks_for() -> None:
    market = "BTC-USDT"
    venue: Venue = Okx({})

    assert isinstance(venue, Okx)
    assert requests(venue, *(Asked(c, market) for c in ("trades", "ticks", "order_book", "funding"))) == [
        {
            "op": "subscribe",
            "args": [{"channel": c, "instId": market} for c in ("trades", "bbo-tbt", "books", "funding-rate")],
        }
    ]
    assert json.loads(venue.unsubscribe([Asked("ticks", market)], 1)[0])["op"] == "unsubscribe"
    assert venue.address({}, "trades") == "wss://ws.okx.com:443/ws/v5/public"


def test_options_choose_other_streams() -> None:
    venue = Okx(
        {
            "watchTrades": {"channel": "trades-all"},
            "watchBidsAsks": {"channel": "tickers"},
            "watchOrderBook": {"depth": "books5"},
        }
    )

    (asked,) = requests(venue, *(Asked(c, "X") for c in ("trades", "ticks", "order_book")))

    assert [arg["channel"] for arg in asked["args"]] == ["trades-all", "tickers", "books5"]
    assert venue.address({}, "trades") == "wss://ws.okx.com:443/ws/v5/business"
    assert venue.address({}, "ticks") == "wss://ws.okx.com:443/ws/v5/public"


def test_a_stream_that_wants_a_key_is_left_to_ccxt() -> None:
    assert Okx({"watchOrderBook": {"depth": "books-l2-tbt"}}).channels == Okx({}).channels - {"order_book"}


def test_requests_are_within_the_limits() -> None:
    venue = Okx({})
    streams = [Asked("trades", f"A-LONG-MARKET-NAME-{number}") for number in range(250)]

    asked = [json.loads(message)["args"] for message in venue.subscribe(streams, 1)]

    assert [len(args) for args in asked] == [100, 100, 50]
    assert [arg["instId"] for args in asked for arg in args] == [stream.market_id for stream in streams]
    assert max(len(message) for message in venue.subscribe(streams, 1)) <= 64 * 1024
