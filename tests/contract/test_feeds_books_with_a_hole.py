"""A change of a book is missing: it is noticed by the venue's numbers, and the book is begun anew.

A venue on this machine: its sockets send what the documents of each venue say, and leave out one message.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ccxt.pro
import pytest
import structlog
from aiohttp import web

from ingestd.records import BookSnapshot, FeedGap
from ingestd.retry import Backoff
from tests.support.book_venues import BOOK_VENUES, BookVenue, ModelBook, Numbers, stored
from tests.support.fake_venue import Connection, FakeVenue, Running
from tests.unit.feeds.doubles import market


def by_result(asked: Any) -> Any:
    return {"jsonrpc": "2.0", "id": asked["id"], "result": asked["params"].get("channels", asked["params"])}


@dataclass(frozen=True)
class Spoken:
    """`agreed` is what the venue says to a request to begin or to end a stream; `other`: a market followed beside."""

    agreed: Callable[[Any], Any]
    other: tuple[str, str] = ("ETH/USDT", "ETHUSDT")


SPOKEN = {
    "deribit": Spoken(by_result, ("ETH/USD:ETH", "ETH-PERPETUAL")),
    "coinbaseinternational": Spoken(by_result, ("ETH/USDC:USDC", "ETH-PERPETUAL")),
    "gate": Spoken(lambda asked: {**asked, "result": {"status": "success"}}, ("ETH/USDT", "ETH_USDT")),
    "htx": Spoken(
        lambda asked: (
            {"id": asked["id"], "status": "ok", "ts": 1}
            | ({"subbed": asked["sub"]} if "sub" in asked else {"unsubbed": asked["unsub"]})
        ),
        ("ETH/USDT:USDT", "ETH-USDT"),
    ),
    "poloniex": Spoken(lambda asked: {**asked, "channel": "book_lv2"}, ("ETH/USDT", "ETH_USDT")),
    "hitbtc": Spoken(
        lambda asked: {"result": {"ch": asked["ch"], "subscriptions": asked["params"]["symbols"]}, "id": asked["id"]}
    ),
    "blofin": Spoken(lambda asked: {"event": asked["op"], "arg": asked["args"][0]}, ("ETH/USDT:USDT", "ETH-USDT")),
    "bybit": Spoken(
        lambda asked: {"success": True, "ret_msg": "", "op": asked["op"], "conn_id": "c", "req_id": asked["req_id"]}
    ),
    "krakenfutures": Spoken(lambda asked: {**asked, "event": f"{asked['event']}d"}, ("ETH/USD:USD", "PF_ETHUSD")),
    "whitebit": Spoken(
        lambda asked: {"id": asked["id"], "result": {"status": "success"}, "error": None}, ("ETH/USDT", "ETH_USDT")
    ),
    "weex": Spoken(lambda asked: {"result": True, "id": asked["id"]}),
    "lighter": Spoken(
        lambda asked: {"type": f"{asked['type']}d", "channel": asked["channel"].replace("/", ":")},
        ("ETH/USDC:USDC", "0"),
    ),
    "apex": Spoken(
        lambda asked: {"success": True, "ret_msg": "", "conn_id": "c", "request": asked}, ("ETH/USDT:USDT", "ETHUSDT")
    ),
    "grvt": Spoken(
        lambda asked: {
            "jsonrpc": "2.0",
            "result": {"stream": "v1.book.d"},
            "id": asked["id"],
            "method": asked["method"],
        },
        ("ETH/USDT:USDT", "ETH_USDT_Perp"),
    ),
}
VENUES = {venue.exchange: venue for venue in BOOK_VENUES if venue.exchange in SPOKEN}


class Market:
    """The venue's side of the book of one market, and all that it ever was."""

    def __init__(self, venue: BookVenue, speaks: Spoken) -> None:
        self.venue = venue
        self.speaks = speaks
        self.numbers = Numbers()
        self.book = ModelBook({"100.5": "1", "99.5": "1"}, {"101.5": "1", "102.5": "1"})
        self.past = [self.book.as_numbers()]
        self.asked: list[str] = []
        self.served = FakeVenue(self.answer)

    def answer(self, _connection: Connection, asked: Any) -> list[Any]:
        """The book is sent to whom it is not being sent: as at most venues, asking twice brings nothing."""
        verb = next((str(asked[key]) for key in ("method", "op", "event", "type") if key in asked), "")
        verb = re.split("[/_]", verb.lower())[-1] or {"sub": "subscribe", "unsub": "unsubscribe"}[next(iter(asked))]
        if verb not in ("subscribe", "unsubscribe"):
            return []
        words = json.dumps(asked)
        own = self.venue.market_id in words if self.venue.exchange != "lighter" else "/1" in words
        if not own:
            return [self.speaks.agreed(asked)]
        stands = bool(self.asked) and self.asked[-1] == "subscribe"
        self.asked.append(verb)
        if verb == "unsubscribe" or stands:
            return [self.speaks.agreed(asked)]
        return [self.speaks.agreed(asked), self.venue.whole(self.book, self.numbers)]

    def change(self, amount: str, side: str = "bids") -> str:
        """The frame of the best level's next change, which may then be left out."""
        price = "100.5" if side == "bids" else "101.5"
        self.book.change(side, price, amount)
        frame = self.venue.change((side, price, amount), self.book, self.numbers)
        self.past.append(self.book.as_numbers())
        return frame

    async def send(self, *frames: str) -> None:
        (connection,) = self.served.open
        await connection.send(*frames)


@pytest.fixture(params=sorted(VENUES))
async def live(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Market, Running]]:
    venue, speaks = VENUES[request.param], SPOKEN[request.param]

    async def markets(exchange: Any, _params: Any = None) -> list[Any]:
        named = ((venue.symbol, venue.market_id), speaks.other)
        return [market(exchange, symbol, market_id, id2=market_id) for symbol, market_id in named]

    async def currencies(_exchange: Any, _params: Any = None) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(getattr(ccxt.pro, venue.exchange), "fetch_markets", markets)
    monkeypatch.setattr(getattr(ccxt.pro, venue.exchange), "fetch_currencies", currencies)
    made = Market(venue, speaks)
    await made.served.start()
    host = "/".join(venue.url.split("/")[:3])
    running = Running(
        made.served,
        venue.exchange,
        host,
        symbols=[venue.symbol, speaks.other[0]],
        channels=["order_book"],
        order_book_interval_ms=0,
        book_audit_interval_s=0,
    )
    try:
        yield made, running
    finally:
        await running.close()
        await made.served.stop()


def books(running: Running) -> list[BookSnapshot]:
    return running.intake.of(BookSnapshot)


async def test_a_change_that_is_missing_is_noticed_and_the_book_begun_anew(live: tuple[Market, Running]) -> None:
    venue, running = live
    await running.until(lambda: len(books(running)) == 1)
    await venue.send(venue.change("2"), venue.change("3", "asks"))
    await running.until(lambda: len(books(running)) == 3)
    venue.change("4")  # is lost: the bid that is stored would be wrong until that price changes again
    await venue.send(venue.change("5", "asks"), venue.change("6", "asks"))
    await running.until(lambda: len(books(running)) == 4)
    await venue.send(venue.change("7"))
    await running.until(lambda: len(books(running)) == 5)

    for book in books(running):
        assert book.valid
        assert stored(book) in venue.past
    assert stored(books(running)[-1]) == venue.book.as_numbers()
    assert venue.asked == ["subscribe", "unsubscribe", "subscribe"]
    opened, ended = running.intake.of(FeedGap)
    assert (opened.cause, opened.symbol, opened.channel) == ("book_broken", venue.venue.symbol, "order_book")
    assert ended.ended_at is not None
    assert len(venue.served.connections) == 1
    status = running.feed.status()
    assert status.book_resyncs == {"sequence": 1}
    assert status.malformed_frames == 0


async def test_a_change_that_is_in_the_book_already_does_not_go_onto_it(live: tuple[Market, Running]) -> None:
    venue, running = live
    await running.until(lambda: len(books(running)) == 1)
    again = venue.change("2")
    await venue.send(again, again, venue.change("3"))
    await running.until(lambda: len(books(running)) == 3)

    assert [stored(book) for book in books(running)] == venue.past
    assert running.intake.of(FeedGap) == []


async def test_a_venue_that_leaves_numbers_out_by_itself_is_not_asked_again_and_again(
    live: tuple[Market, Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    venue, running = live
    monkeypatch.setattr(Backoff, "next_s", lambda _self, _at_least_s=0.0: 0.0)

    def skipping() -> str:
        venue.numbers.next()
        return venue.change(str(2 + len(venue.past)))

    def is_stored() -> bool:
        return bool(books(running)) and stored(books(running)[-1]) == venue.book.as_numbers()

    def was_begun_anew(times: int) -> bool:
        return running.feed.status().book_resyncs.get("sequence") == times

    with structlog.testing.capture_logs() as logs:
        for count in range(1, 4):
            await running.until(is_stored)
            await venue.send(skipping(), skipping())  # the first one follows on a whole book without a number
            await running.until(partial(was_begun_anew, count))
        await running.until(is_stored)
        before = len(books(running))
        await venue.send(*[skipping() for _ in range(60)])
        await running.until(is_stored)

    assert [stored(book) for book in books(running)[before:]] == venue.past[-60:]
    assert all(book.valid and stored(book) in venue.past for book in books(running))
    assert running.feed.status().book_resyncs == {"sequence": 3}
    assert [log["event"] for log in logs].count("book_numbers_not_consecutive") == 1
    assert len(venue.served.connections) == 1
    gaps = running.intake.of(FeedGap)
    assert [gap.cause for gap in gaps] == ["book_broken"] * 6
    assert gaps[-1].ended_at is not None


class Nado:
    """Its books: a whole one over REST with a time, and changes by the nanosecond of the last one in each.

    https://docs.nado.xyz/developer-resources/api/v2/orderbook and
    https://docs.nado.xyz/developer-resources/api/subscriptions/events
    """

    def __init__(self) -> None:
        self.served = FakeVenue(self.answer)
        self.served.replies["/v2/orderbook"] = self.whole
        self.book = ModelBook({"100.5": "1", "99.5": "1"}, {"101.5": "1", "102.5": "1"})
        self.past = [self.book.as_numbers()]
        self.at_ns = 1_790_000_000_000_000_000
        self.count = 0

    def answer(self, _connection: Connection, asked: Any) -> list[Any]:
        return [{"result": None, "id": asked["id"]}]

    def whole(self, _request: web.Request) -> Any:
        """At once the market moves on, as it does between any two requests."""
        sides = {
            side: [[float(price), float(amount)] for price, amount in self.book.rows(side)] for side in ("bids", "asks")
        }
        reply = {"product_id": 2, "ticker_id": "BTC-PERP_USDT0", **sides, "timestamp": self.at_ns // 10**6}
        self.change("bids")
        return reply

    def change(self, side: str) -> str:
        self.count += 1
        before, self.at_ns = self.at_ns, self.at_ns + 50_000_000
        price, amount = ("100.5" if side == "bids" else "101.5"), str(1 + self.count)
        self.book.change(side, price, amount)
        self.past.append(self.book.as_numbers())
        row = [f"{float(price):.1f}".replace(".", "") + "0" * 17, amount + "0" * 18]
        rows = {name: [row] if name == side else [] for name in ("bids", "asks")}
        times = {"min_timestamp": str(self.at_ns), "max_timestamp": str(self.at_ns), "last_max_timestamp": str(before)}
        self.frame = json.dumps({"type": "book_depth", **times, "product_id": 2, **rows})
        for connection in self.served.open:
            asyncio.get_running_loop().create_task(connection.send(self.frame))
        return self.frame


@pytest.mark.parametrize("lost_later", [False, True])
async def test_nado_what_changes_while_a_book_is_asked_for_is_in_it(
    monkeypatch: pytest.MonkeyPatch, lost_later: bool
) -> None:
    async def markets(exchange: Any, _params: Any = None) -> list[Any]:
        return [market(exchange, "BTC/USDT0:USDT0", "2", info={"ticker_id": "BTC-PERP_USDT0"})]

    async def currencies(_exchange: Any, _params: Any = None) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(ccxt.pro.nado, "fetch_markets", markets)
    monkeypatch.setattr(ccxt.pro.nado, "fetch_currencies", currencies)
    venue = Nado()
    await venue.served.start()
    running = Running(
        venue.served,
        "nado",
        "https://gateway.prod.nado.xyz",
        "wss://gateway.prod.nado.xyz",
        symbols=["BTC/USDT0:USDT0"],
        channels=["order_book"],
        order_book_interval_ms=0,
        book_audit_interval_s=0,
    )

    async def until(count: int) -> None:
        async with asyncio.timeout(60):
            while len(books(running)) < count:
                venue.change("asks")
                await asyncio.sleep(0.01)

    try:
        await until(5)
        if lost_later:
            carried, venue.served.connections = venue.served.connections, []
            venue.change("bids")
            venue.served.connections = carried
            await until(len(books(running)) + 5)
        for book in books(running):
            assert stored(book) in venue.past
        gaps = running.intake.of(FeedGap)
        assert [gap.cause for gap in gaps] == ["book_broken"] * 2 * lost_later
        assert running.feed.status().malformed_frames == 0
    finally:
        await running.close()
        await venue.served.stop()
