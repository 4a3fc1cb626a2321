"""Bitget: on every frame the native decoder says what ccxt's feed says; its books have the venue's own checksums."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ingestd.feeds.native.books import Books
from ingestd.records import Trade
from ingestd.venues.all import facts_of
from ingestd.venues.bitget import Bitget, BitgetBookRule, bitget_checksum
from ingestd.venues.messages import BookChange, Message, Notice
from ingestd.venues.trades import Ids, Paging, Series
from ingestd.venues.venue import Asked, Venue
from tests.support.captures import capture_lines
from tests.support.documented_frames import documented
from tests.support.oracle import START, Compared, adapted, compare, numbered_frames
from tests.unit.feeds.doubles import Wire

URL = "wss://ws.bitget.com/v2/ws/public"
NAMES = {"BTC/USDT": "BTCUSDT", "BTC/USDT:USDT": "BTCUSDT", "BTC/USD:BTC": "BTCUSD"}
IDS = {"SPOT:BTCUSDT": "BTC/USDT", "USDT-FUTURES:BTCUSDT": "BTC/USDT:USDT", "COIN-FUTURES:BTCUSD": "BTC/USD:BTC"}
V2_TYPES = {"sp": "SPOT", "mc": "USDT-FUTURES"}  # by the instType of the recorded version 1, whose books have one form


def without_number(message: Message) -> Message:
    """ccxt keeps no number of a book."""
    return msgspec.structs.replace(message, last=None) if isinstance(message, BookChange) else message


async def compared(frames: list[str], **changes: Any) -> Compared:
    venue: Venue = Bitget({})
    wire = Wire("bitget", NAMES, URL)
    markets = dict(wire.exchange.markets)
    await wire.close()
    options = {"watchOrderBook": {"checksum": False}}
    return await compare(
        "bitget",
        markets,
        numbered_frames(URL, frames),
        adapted(venue.decoder, without_number),
        symbols=IDS,
        options=options,
        book_rule=venue.book_rule,
        **changes,
    )


async def test_every_documented_message() -> None:
    outcome = await compared([frame.decode() for frame in documented("bitget").frames])

    assert outcome.records == {"trades": 3, "ticks": 2, "order_book": 2}
    assert outcome.refused == []
    assert [notice.market_id for notice in outcome.notices if notice.kind == "refused"] == ["SPOT:NOUSDT", None]


@pytest.mark.parametrize("seed", range(4))
async def test_generated_frames(seed: int) -> None:
    outcome = await compared(list(generated(random.Random(seed), 400)))

    assert min(outcome.records[channel] for channel in ("trades", "ticks", "order_book")) > 50
    assert outcome.refused == []


def generated(chosen: random.Random, count: int) -> Iterator[str]:
    """Frames of the documented forms with random content."""
    begun: set[str] = set()
    for number in range(1, count + 1):
        market = chosen.choice(list(IDS))
        inst_type, _, inst_id = market.partition(":")
        channel = chosen.choice(["trade", "ticker", "books", "books"])
        action, row = "update", {"ts": str(1_790_000_000_000 + chosen.randint(0, 10**9))}

        def price() -> str:
            return f"{chosen.randint(9_980, 10_020) / 10:.2f}"

        if channel == "trade":
            rows: list[Any] = [
                row
                | {"price": price(), "size": "0.10", "side": chosen.choice(["buy", "sell"]), "tradeId": f"{number}{n}"}
                for n in range(chosen.choice([1, 1, 3]), 0, -1)
            ]
        elif channel == "ticker":
            rows = [row | {"instId": inst_id, "bidPr": price(), "bidSz": "1.10", "askPr": price(), "askSz": "2"}]
        else:
            if market not in begun or chosen.random() < 0.1:
                begun.add(market)
                action = "snapshot"
            size = 20 if action == "snapshot" else 4
            bids, asks = (
                [[p, chosen.choice(["0", "0.10", "25000"])] for p in {price() for _ in range(size)}] for _ in "ba"
            )
            rows = [row | {"bids": bids, "asks": asks, "seq": number, "checksum": 0}]
        arg = {"instType": inst_type, "channel": channel, "instId": inst_id}
        yield json.dumps({"action": action, "arg": arg, "data": rows, "ts": 1})


def test_the_recorded_books_have_the_venues_checksums() -> None:
    """Of the best 25 levels a side, bid and ask in turn. Recorded in version 1, whose channel `books` has this form."""
    decoder = Bitget({}).decoder(
        {f"{kind}:{name}": f"{kind} {name}" for kind in V2_TYPES.values() for name in names()}, START
    )
    books = Books(BitgetBookRule(), over_rest=False)
    agreed = 0
    for text in book_frames():
        for change in decoder(text.encode(), START):
            assert isinstance(change, BookChange)
            books.follow(change.symbol)
            assert books.take(change) == "changed"
            book = books.get(change.symbol)
            assert book is not None
            agreed += change.checksum == bitget_checksum(book.bids.best(25), book.asks.best(25))
    assert agreed == len(book_frames()) > 600


def book_frames() -> list[str]:
    found = []
    for line in capture_lines("bitget-spot-2022-04"):
        if line["kind"] == "recv" and '"channel":"books"' in line["data"] and '"action"' in line["data"]:
            frame = json.loads(line["data"])
            frame["arg"]["instType"] = V2_TYPES[frame["arg"]["instType"]]
            found.append(json.dumps(frame))
    return found


def names() -> set[str]:
    return {json.loads(frame)["arg"]["instId"] for frame in book_frames()}


def test_a_change_that_came_out_of_turn_is_a_hole() -> None:
    rule = BitgetBookRule()
    change = BookChange("A/B", 1, 1, (), (), last=7)
    assert rule.follows(change, 5) is True
    assert rule.follows(change, 7) is True
    assert rule.follows(change, 8) is False
    assert rule.follows(change, None) is True
    assert rule.follows(msgspec.structs.replace(change, last=None), 8) is True


def test_a_wrong_checksum_is_found_once_one_was_right() -> None:
    frames = [frame for frame in documented("bitget").frames if b'"books"' in frame and b'"action"' in frame]
    decode = Bitget({}).decoder(IDS, START)
    (snapshot,), (update,) = (decode(frame, START) for frame in frames)
    assert isinstance(snapshot, BookChange)
    assert isinstance(update, BookChange)
    books = Books(BitgetBookRule(), over_rest=False)
    books.follow("BTC/USDT")
    assert books.take(snapshot) == "changed"
    assert books.take(update) == "changed"
    assert books.take(msgspec.structs.replace(update, checksum=1, last=200)) == "checksum"


def test_markets_are_asked_for_by_product_type() -> None:
    venue = Bitget({})
    spot = venue.market_id({"id": "BTCUSDT", "spot": True})
    usdc = venue.market_id({"id": "BTCPERP", "spot": False, "settle": "USDC", "linear": True})
    coin = venue.market_id({"id": "BTCUSD", "spot": False, "settle": "BTC", "inverse": True})
    asked = [Asked("trades", spot), Asked("ticks", usdc), Asked("order_book", coin)]
    (message,) = venue.subscribe(asked, 1)
    assert msgspec.json.decode(message) == {
        "op": "subscribe",
        "args": [
            {"instType": "SPOT", "channel": "trade", "instId": "BTCUSDT"},
            {"instType": "USDC-FUTURES", "channel": "ticker", "instId": "BTCPERP"},
            {"instType": "COIN-FUTURES", "channel": "books", "instId": "BTCUSD"},
        ],
    }
    assert b'"op":"unsubscribe"' in venue.unsubscribe(asked, 1)[0]
    longest = [Asked("trades", f"USDT-FUTURES:1000000BABYDOGE{number}USDT") for number in range(100, 180)]
    assert all(len(request) <= 4096 for request in venue.subscribe(longest, 1))


@pytest.mark.parametrize(
    "options", [{"uta": True}, {"sandboxMode": True}, {"watchBidsAsks": {"uta": True}}, {"instType": "SPOT"}]
)
def test_what_lies_on_other_sockets_is_left_to_the_library(options: dict[str, Any]) -> None:
    assert Bitget(options).channels == frozenset()
    assert Bitget({"fetchMarkets": {"types": ["spot"]}}).channels == {"trades", "ticks", "order_book"}


@pytest.mark.parametrize(("flag", "kind"), [("", None), (',"isRPI":"no"', None), (',"isRPI":"yes"', "rpi")])
def test_a_retail_order_is_marked(flag: str, kind: str | None) -> None:
    row = '{"ts":"1790000000000","price":"1.0","size":"2","side":"sell","tradeId":"7"%s}' % flag  # noqa: UP031  # braces
    frame = '{"action":"update","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[' + row + "]}"
    (trade,) = Bitget({}).decoder(IDS, START)(frame.encode(), START)
    assert isinstance(trade, Trade)
    assert (trade.kind, trade.seq, trade.side) == (kind, 7, "sell")


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        '{"event":"moved"}',
        '{"arg":{"instType":"SPOT","channel":"books","instId":"BTCUSDT"},"action":"moved","data":[]}',
        '{"arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[{"ts":"1","price":"","size":"1"}]}',
        "[" * 5000,
    ],
)
def test_what_is_not_documented_is_refused(frame: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Bitget({}).decoder(IDS, START)(frame.encode(), START)


def test_its_past_is_read_backwards_by_id() -> None:
    past = facts_of("bitget").trades.past
    assert isinstance(past, Series)
    assert (past.paging, past.ids, past.id_param) == (Paging.BEFORE_ID, Ids.INCREASING, "idLessThan")
    assert facts_of("bitget").trades.two_times
    assert Notice("heartbeat") in Bitget({}).decoder({}, START)(b"pong", START)
