"""The oracle itself: it lets pass what is equal, and says where the two differ.

The decoder here is a plain reading of OKX's frames, written for these tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from ingestd.records import Tick, Trade
from ingestd.venues.messages import BookChange, Decoder, Message
from ingestd.venues.venue import BookRule
from tests.support.oracle import Compared, Frame, compare, numbered_frames
from tests.unit.feeds.doubles import Wire

URL = "wss://ws.okx.com:8443/ws/v5/public"
SYMBOL = "BTC/USDT"
TRADE = (
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"7","px":"42219.90",'
    '"sz":"0.120","side":"buy","ts":"1630048897897"},{"instId":"BTC-USDT","tradeId":"8","px":"42220.0","sz":"1.0",'
    '"side":"sell","ts":"1630048897898"}]}'
)
TICK = (
    '{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["8476.980","415","0","13"]],'
    '"bids":[["8476.97","256","0","12"]],"ts":"1597026383085","seqId":123456}]}'
)
BOOK = (
    '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"%s","data":[{"asks":[["10.20","%s","0","1"]],'
    '"bids":[["10.10","%s","0","1"],["9.90","3","0","1"]],"ts":"1597026383085","checksum":1,"prevSeqId":%d,"seqId":%d}]}'
)
FRAMES = [TRADE, TICK, BOOK % ("snapshot", "1.0", "2.0", -1, 5), BOOK % ("update", "1.50", "0", 5, 7)]

Changed = Callable[[Message], Message]


def plain_decoder(changed: Changed = lambda message: message) -> Callable[[Mapping[str, str], int], Decoder]:
    def read(symbol: str, document: Any, row: Any, received_at: int) -> Message:
        time = int(row["ts"]) * 1000
        match document["arg"]["channel"]:
            case "trades":
                trade_id = row["tradeId"]
                return Trade(
                    "okx", symbol, time, received_at, trade_id, int(trade_id), row["side"], row["px"], row["sz"]
                )
            case "bbo-tbt":
                return Tick("okx", symbol, time, received_at, *row["bids"][0][:2], *row["asks"][0][:2])
        whole = document["action"] == "snapshot"
        return BookChange(symbol, time, received_at, row["bids"], row["asks"], whole, last=row["seqId"])

    def made(symbols: Mapping[str, str], _start: int) -> Decoder:
        def decode(frame: bytes, received_at: int, /) -> Sequence[Message]:
            document = json.loads(frame)
            symbol = symbols[document["arg"]["instId"]]
            return [changed(read(symbol, document, row, received_at)) for row in document["data"]]

        return decode

    return made


def subscribed(exchange: Any, client: Any) -> None:
    for symbol in exchange.markets:
        client.subscriptions[f"books:{symbol}"] = True


async def compared(frames: Sequence[Frame], changed: Changed = lambda message: message) -> Compared:
    wire = Wire("okx", {SYMBOL: "BTC-USDT"}, URL)
    markets = dict(wire.exchange.markets)
    await wire.close()
    return await compare("okx", markets, frames, plain_decoder(changed), prepare=subscribed)


async def test_what_is_equal_is_counted() -> None:
    outcome = await compared(numbered_frames(URL, FRAMES))

    assert outcome.records == {"trades": 2, "ticks": 1, "order_book": 2}
    assert outcome.books[SYMBOL].bids == (("9.90", "3"),)
    assert outcome.books[SYMBOL].asks == (("10.20", "1.50"),)
    assert outcome.refused == []


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        (Trade, "price", "42219.9", "0.price: ccxt '42219.90', native '42219.9'"),
        (Trade, "time", 1630048897897001, "0.time: ccxt 1630048897897000, native 1630048897897001"),
        (Trade, "seq", 6, "0.seq: ccxt 7, native 6"),
        (Trade, "side", None, "0.side: ccxt 'buy', native None"),
        (Tick, "ask_price", "8476.98", "0.ask_price: ccxt '8476.980', native '8476.98'"),
        (Tick, "received_at", 1, "native 1"),
        (BookChange, "asks", [["10.2", "1.0"]], "level 0: ccxt (('10.20', '1.0'),) of 1, native (('10.2', '1.0'),)"),
        (BookChange, "last", None, "0.sequence: ccxt 5, native None"),
        (BookChange, "symbol", "ETH/USDT", "order_book of BTC/USDT"),
    ],
)
async def test_a_differing_field_is_said(kind: type[Message], name: str, value: object, said: str) -> None:
    def changed(message: Message) -> Message:
        return msgspec.structs.replace(message, **{name: value}) if isinstance(message, kind) else message

    with pytest.raises(AssertionError) as failed:
        await compared(numbered_frames(URL, FRAMES), changed)

    assert said in str(failed.value)


async def test_a_frame_that_only_ccxt_takes_is_a_difference() -> None:
    def refused(_message: Message) -> Message:
        raise ValueError("no such frame")

    with pytest.raises(AssertionError, match="frame 0"):
        await compared(numbered_frames(URL, [TRADE]), refused)


async def test_what_both_refuse_is_kept() -> None:
    frames = numbered_frames(URL, ["{", TRADE])

    outcome = await compared(frames)

    assert outcome.refused == frames[:1]
    assert outcome.records == {"trades": 2}


class FromTheNext(BookRule):
    """Binance's changes: what the book has is left out, a hole is a hole."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        assert change.first is not None
        assert change.last is not None
        if sequence is None or change.last <= sequence:
            return None
        return change.first <= sequence + 1


async def test_books_that_begin_over_rest() -> None:
    url, frame = (
        "wss://stream.binance.com:9443/ws/0",
        '{"e":"depthUpdate","E":1672515782136,"s":"BTCUSDT","U":%d,"u":%d,',
    )
    frame += '"b":[["0.0024000","%s"]],"a":[["0.0026","100"]]}'
    frames = [frame % (90, 100, "9"), frame % (101, 103, "10.50"), frame % (104, 104, "11"), frame % (105, 105, "0")]
    snapshot = {"bids": [["0.0023", "1.0"]], "asks": [["0.0027", "1.0"]], "nonce": 102}
    wire = Wire("binance", {SYMBOL: "BTCUSDT"}, url)
    markets = dict(wire.exchange.markets)
    await wire.close()

    def made(symbols: Mapping[str, str], _start: int) -> Decoder:
        def decode(text: bytes, received_at: int, /) -> Sequence[Message]:
            said = json.loads(text)
            numbers = {"first": said["U"], "last": said["u"]}
            return [
                BookChange(symbols[said["s"]], said["E"] * 1000, received_at, said["b"], said["a"], **numbers),
            ]

        return decode

    outcome = await compare(
        "binance", markets, numbered_frames(url, frames), made, books={SYMBOL: snapshot}, book_rule=FromTheNext()
    )

    assert outcome.records == {"order_book": 3}
    assert outcome.books[SYMBOL].bids == (("0.0023", "1.0"),)
    assert outcome.books[SYMBOL].sequence == 105
