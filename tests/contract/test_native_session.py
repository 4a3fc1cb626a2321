"""Sockets, subscriptions and refusals of the native feed, against a server that speaks a language of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from socket import create_server
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from ingestd.clock import monotonic_s
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.native.session import NativeSession
from ingestd.feeds.stopping import Stop
from ingestd.records import BookSnapshot, Channel, FeedGap, Trade
from ingestd.retry import Backoff
from ingestd.venues.messages import BookChange, Decoder, FrameNumber, Message, Notice
from ingestd.venues.venue import Asked, BookRule, KeepAlive, Limits, Venue
from tests.support.time_limits import limit_s
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0


class Numbered(BookRule):
    """Changes without holes."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        return change.last == (sequence or 0) + 1


class Words(Venue):
    """A venue whose frames are lists: ["trade", market, id], ["book", market, number, "snapshot" or ""], ["notice",
    kind, market or null], ["number", n], ["number", n, …one of these]; anything else is malformed."""

    exchange = "words"
    channels: frozenset[Channel] = frozenset({"trades", "order_book"})
    markets = frozenset({"spot"})
    url = "wss://words.invalid/ws"

    def __init__(self, **changes: Any) -> None:
        self.limits = Limits(
            **{"streams_per_socket": 100, "streams_per_message": 10, "messages_per_s": 1000.0, "sockets_per_s": 1000.0}
            | {name: value for name, value in changes.items() if name in Limits.__slots__},
            source="this test",
        )
        self.keep_alive: KeepAlive | None = changes.get("keep_alive")
        self.book_over_rest: bool = changes.get("book_over_rest", False)
        self.book_rule = Numbered() if changes.get("numbered") else BookRule()

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        return [json.dumps({operation: [list(stream) for stream in streams]}).encode()]

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        def decode(frame: bytes, received_at: int) -> Sequence[Message]:
            match json.loads(frame):
                case ["trade", market, int(number)] if market in symbols:
                    trade = Trade(
                        "words", symbols[market], received_at, received_at, str(number), number, "buy", "1", "2"
                    )
                    return [trade]
                case ["trade", _, int(_)]:
                    return []
                case ["book", market, int(number), kind]:
                    rows = [["1.0", str(number)]]
                    symbol = symbols[market]
                    return [BookChange(symbol, 1, received_at, rows, [], kind == "snapshot", None, number)]
                case ["notice", kind, market]:
                    return [Notice(kind, "because", market)]
                case ["number", int(number)]:
                    return [FrameNumber(number)]
                case ["number", int(number), *rest]:
                    return [FrameNumber(number), *decode(json.dumps(rest).encode(), received_at)]
                case ["bug"]:
                    raise KeyError("a decoder's own mistake")
            raise ValueError("not a word")

        return decode


class Server:
    """Notes what it is asked; `answer` makes replies of it."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []
        self.dialled_s: list[float] = []
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self.texts: list[str] = []
        self.hangs_up = False
        self.answer: Callable[[str, list[tuple[str, str]]], list[Any]] = lambda _kind, _streams: []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/ws", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        for socket in self.sockets:
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def send(self, *frames: Any) -> None:
        """To the newest socket."""
        for frame in frames:
            await self.sockets[-1].send_str(frame if isinstance(frame, str) else json.dumps(frame))

    def subscribed(self) -> list[tuple[str, str]]:
        """Every stream that was asked for, in order, again and again."""
        return [stream for kind, streams in self.asked if kind == "subscribe" for stream in streams]

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.dialled_s.append(monotonic_s())
        if self.hangs_up:
            await socket.close()
            return socket
        self.sockets.append(socket)
        async for message in socket:
            if message.type == WSMsgType.TEXT and message.data.startswith("{"):
                ((kind, streams),) = json.loads(message.data).items()
                named = [(channel, market) for channel, market in streams]
                self.asked.append((kind, named))
                for reply in self.answer(kind, named):
                    await socket.send_json(reply)
            elif message.type == WSMsgType.TEXT:
                self.texts.append(message.data)
        return socket


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def quick_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a real backoff; its arithmetic has tests of its own."""
    monkeypatch.setattr("ingestd.feeds.streams.quarantine.RETRY_S", 0.0)
    monkeypatch.setattr("ingestd.feeds.native.refusals.CONSENT_WITHIN_S", 0.02)
    for module in ("connection", "rebuild_queue"):
        monkeypatch.setattr(f"ingestd.feeds.native.{module}.Backoff", lambda **_: Backoff(base_s=0.001, cap_s=0.005))


class Running:
    """A session of the markets a, b, c…, whose symbols are A/X, B/X, C/X…"""

    def __init__(
        self, server: Server, markets: str, *, channels: Sequence[Channel] = ("trades",), **changes: Any
    ) -> None:
        settings = {name: changes.pop(name) for name in list(changes) if name in FeedConfig.model_fields}
        self.server = server
        self.intake = ListIntake()
        self.rest: dict[str, Any] = {}
        self.rest_asked: list[str] = []
        config = FeedConfig(
            exchange="words",
            symbols=["*"],
            channels=list(channels),
            url_map={"wss://words.invalid": server.url},
            **{"order_book_interval_ms": 0, "book_audit_interval_s": 0, **settings},
        )
        venue = Words(**changes)
        reader = MessageReader(config, venue, self.intake)
        self.recorder, self.ledger = reader.recorder, reader.ledger
        self.session = NativeSession(config, venue, reader, self._book)
        self.stop = Stop()
        self.follow(markets)
        self.task = asyncio.create_task(self.session.run(self.stop))

    def follow(self, markets: str) -> None:
        found = {f"{name.upper()}/X": {"id": name, "symbol": f"{name.upper()}/X", "spot": True} for name in markets}
        self.session.follow(Choice(list(found), found))

    async def _book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        self.rest_asked.append(symbol)
        answer = self.rest.get(symbol, FeedError("the venue is down"))
        if isinstance(answer, Exception):
            raise answer
        book: Mapping[str, Any] = answer
        return book

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.002)

    def ids(self) -> list[str]:
        return [trade.trade_id for trade in self.intake.of(Trade)]

    def quarantined(self) -> dict[str, str]:
        return {s.symbol: s.quarantined for s in self.ledger.all_streams() if s.quarantined is not None}

    async def close(self) -> None:
        self.recorder.closing = True
        self.stop.set()
        await self.task


def trades(*markets: str) -> list[tuple[str, str]]:
    return [("trades", market) for market in markets]


async def test_streams_are_spread_over_sockets_and_messages_within_the_limits(server: Server) -> None:
    running = Running(server, "abcdefg", streams_per_socket=3, streams_per_message=2)
    await running.until(lambda: len(server.subscribed()) == 7)

    assert sorted(server.subscribed()) == trades(*"abcdefg")
    assert max(len(streams) for _, streams in server.asked) == 2
    assert len(server.sockets) == 3
    await running.close()


async def test_what_is_chosen_is_followed_when_the_choice_returns(server: Server) -> None:
    """In between, the ledger of gaps would call unlisted what the feed leaves for a moment: nothing is awaited here."""
    running = Running(server, "ab")
    assert {stream.symbol for stream in running.ledger.all_streams()} == {"A/X", "B/X"}
    running.follow("bc")
    assert {stream.symbol for stream in running.ledger.all_streams()} == {"B/X", "C/X"}
    await running.until(lambda: sorted(server.subscribed()) == trades(*"bc"))
    await running.close()


async def test_messages_are_paced(server: Server) -> None:
    asked_s: list[float] = []
    server.answer = lambda _kind, _streams: asked_s.append(monotonic_s()) or []  # type: ignore[func-returns-value]
    running = Running(server, "abcd", streams_per_message=1, messages_per_s=20.0)
    await running.until(lambda: len(asked_s) == 4)

    assert asked_s[-1] - asked_s[0] >= 3 / 20 - 0.02
    await running.close()


async def test_no_more_messages_are_sent_than_an_hour_allows(server: Server) -> None:
    running = Running(server, "abcd", streams_per_message=1, messages_per_hour=4)
    await running.until(lambda: len(server.asked) == 2)  # half of them at once
    await asyncio.sleep(0.3)
    assert len(server.asked) == 2
    await running.close()


async def test_a_reload_asks_for_the_difference_on_the_same_socket(server: Server) -> None:
    running = Running(server, "ab")
    await running.until(lambda: len(server.subscribed()) == 2)
    await server.send(["trade", "a", 1])
    await running.until(lambda: running.ids() == ["1"])

    running.follow("bc")
    await running.until(lambda: len(server.asked) == 3)
    await server.send(["trade", "a", 2], ["trade", "c", 3])
    await running.until(lambda: len(running.ids()) == 2)

    assert server.asked[1:] == [("unsubscribe", trades("a")), ("subscribe", trades("c"))]
    assert running.ids() == ["1", "3"]
    assert len(server.sockets) == 1
    assert running.intake.of(FeedGap) == []
    assert {stream.symbol for stream in running.ledger.all_streams()} == {"B/X", "C/X"}
    await running.close()


async def test_a_socket_that_carries_nothing_any_more_is_closed_and_dialled_again_when_it_does(server: Server) -> None:
    running = Running(server, "a")
    await running.until(server.subscribed)
    running.follow("")
    await running.until(lambda: server.sockets[0].closed)
    assert not running.session.connected

    running.follow("b")
    await running.until(lambda: len(server.sockets) == 2)
    await server.send(["trade", "b", 1])
    await running.until(running.ids)
    assert running.intake.of(FeedGap) == []
    await running.close()


async def test_a_refused_market_that_is_named_is_left_out_alone(server: Server) -> None:
    server.answer = lambda _kind, streams: [["notice", "refused", "b"]] if ("trades", "b") in streams else []
    running = Running(server, "abc")
    await running.until(running.quarantined)
    await server.send(["trade", "a", 1], ["trade", "c", 2])
    await running.until(lambda: len(running.ids()) == 2)

    assert running.quarantined() == {"B/X": "because"}
    assert server.subscribed().count(("trades", "b")) == 3
    assert server.subscribed().count(("trades", "a")) == server.subscribed().count(("trades", "c")) == 1
    await running.close()


async def test_a_refusal_that_names_none_is_searched_for(server: Server) -> None:
    """`a` delivers, so it is not asked for again; of the silent ones each is, alone."""

    def answer(kind: str, streams: list[tuple[str, str]]) -> list[Any]:
        first = [["trade", "a", 1]] if len(streams) > 1 else []
        return [*first, ["notice", "refused", None] if ("trades", "c") in streams else ["notice", "subscribed", None]]

    server.answer = answer
    running = Running(server, "abcd")
    await running.until(running.quarantined)
    await running.until(lambda: ("subscribe", trades("d")) in server.asked)

    asked = [streams for _, streams in server.asked]
    assert asked[0] == trades(*"abcd")
    assert set(map(tuple, asked[1:])) == {tuple(trades(market)) for market in "bcd"}
    assert asked.count(trades("c")) == 3
    assert running.quarantined() == {"C/X": "because"}
    await server.send(["trade", "c", 7])
    await running.until(lambda: running.ids() == ["1", "7"])
    assert running.quarantined() == {}  # it delivers after all
    await running.close()


async def test_an_error_that_is_about_nothing_asked_for_puts_no_stream_aside(server: Server) -> None:
    """The quiet ones are asked for again, and the venue says yes."""
    said = [["notice", "refused", None], ["notice", "subscribed", None]]
    server.answer = lambda kind, _streams: said if kind == "subscribe" else []
    running = Running(server, "abc")
    await running.until(lambda: server.asked)
    for searches in range(1, 5):
        while len(server.asked) < 1 + 3 * searches:
            await server.send(["notice", "refused", None])
            await asyncio.sleep(0.02)

    assert running.quarantined() == {}
    await server.send(["trade", "a", 1], ["trade", "b", 2], ["trade", "c", 3])
    await running.until(lambda: len(running.ids()) == 3)
    await running.close()


async def test_a_venue_that_refuses_everything_is_asked_again_before_an_hour_is_over(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestd.feeds.streams.quarantine.SHORT_QUARANTINE_S", 0.01)
    server.answer = lambda _kind, _streams: [["notice", "refused", None]]
    running = Running(server, "ab", stale_after_s=1.0)
    await running.until(lambda: len(running.quarantined()) == 2)

    server.answer = lambda _kind, streams: [["trade", market, 1] for _, market in streams]
    await running.until(lambda: len(running.ids()) == 2)

    assert running.quarantined() == {}
    await running.close()


async def test_what_is_malformed_and_a_decoders_mistake_cost_a_frame_each(server: Server) -> None:
    running = Running(server, "a")
    await running.until(server.subscribed)
    await server.send(["trade", "a", 1], "{{{", ["bug"], ["trade", "a", 2])
    await running.until(lambda: len(running.ids()) == 2)

    assert running.ledger.counts.malformed_frames == 2
    assert len(server.sockets) == 1
    await running.close()


async def test_a_frame_that_is_missing_costs_the_connection_and_nothing_after_it_is_taken(server: Server) -> None:
    running = Running(server, "a")
    await running.until(server.subscribed)
    await server.send(["number", 5], ["trade", "a", 1], ["number", 6], ["number", 8], ["trade", "a", 9])
    await running.until(lambda: len(server.sockets) == 2)
    await server.send(["number", 0], ["trade", "a", 10])
    await running.until(lambda: len(running.ids()) == 2)

    assert running.ids() == ["1", "10"]
    opened, ended = running.intake.of(FeedGap)
    assert opened.cause == "disconnect"
    assert "7" in (opened.detail or "")
    assert ended.ended_at is not None
    await running.close()


async def test_a_frame_that_is_missing_lies_inside_a_gap_also_when_the_next_one_has_data(server: Server) -> None:
    running = Running(server, "a")
    await running.until(lambda: server.subscribed())
    await server.send(["number", 5, "trade", "a", 1])
    await running.until(lambda: running.ids() == ["1"])
    await server.send(["number", 7, "trade", "a", 3])
    await running.until(lambda: len(server.sockets) == 2)

    first, last = running.intake.of(Trade)
    gaps = [gap for gap in running.intake.of(FeedGap) if gap.ended_at is not None]
    assert any(gap.time <= first.received_at and (gap.ended_at or 0) >= last.received_at for gap in gaps)
    await running.close()


async def test_a_restart_that_the_venue_announces_is_an_ordinary_reconnect(server: Server) -> None:
    running = Running(server, "a")
    await running.until(server.subscribed)
    await server.send(["trade", "a", 1], ["notice", "restarting", None])
    await running.until(lambda: len(server.subscribed()) == 2)
    await server.send(["trade", "a", 2])
    await running.until(lambda: len(running.ids()) == 2)

    assert [gap.ended_at is None for gap in running.intake.of(FeedGap)] == [True, False]
    assert running.ledger.counts.disconnects == 1
    await running.close()


async def test_a_venue_that_hangs_up_at_once_is_dialled_no_faster_than_it_allows(server: Server) -> None:
    server.hangs_up = True
    running = Running(server, "a", sockets_per_s=10.0)
    await running.until(lambda: len(server.dialled_s) >= 9)
    server.hangs_up = False
    await running.until(server.subscribed)
    await server.send(["trade", "a", 1])
    await running.until(running.ids)

    assert server.dialled_s[8] - server.dialled_s[0] >= 8 / 10 - 0.05
    assert [gap.ended_at is None for gap in running.intake.of(FeedGap)] == [True, False]
    await running.close()


async def test_a_socket_that_cannot_be_dialled_is_a_gap_from_when_it_was_followed(server: Server) -> None:
    address = server.url
    await server.stop()
    running = Running(server, "a")
    await running.until(lambda: running.intake.of(FeedGap))
    (gap,) = running.intake.of(FeedGap)

    assert (gap.cause, gap.time) == ("disconnect", running.ledger.streams["trades"]["A/X"].followed_at)
    assert running.ledger.counts.connects == running.ledger.counts.disconnects == 0
    assert not running.session.connected
    assert address
    await running.close()


async def test_what_keeps_the_connection_alive_is_said_also_while_nothing_is_read(server: Server) -> None:
    running = Running(server, "a", keep_alive=KeepAlive(0.05, b"still here"), stale_after_s=0.2)
    await running.until(server.subscribed)
    running.intake.room.clear()
    await server.send(["trade", "a", 1])
    await running.until(running.ids)  # that read had begun before
    said = len(server.texts)
    await running.until(lambda: len(server.texts) >= said + 10)  # longer than silence is put up with

    assert set(server.texts) == {"still here"}
    assert running.ledger.counts.stale_reconnects == 0
    running.intake.room.set()
    await server.send(["trade", "a", 2])
    await running.until(lambda: len(running.ids()) == 2)
    await running.close()


async def test_silence_is_given_up_later_each_time_it_was_in_vain(server: Server) -> None:
    running = Running(server, "a", stale_after_s=0.1)
    await running.until(lambda: len(server.dialled_s) >= 4)

    first, second, third = (server.dialled_s[n + 1] - server.dialled_s[n] for n in range(3))
    assert first >= 0.1
    assert second >= 0.2
    assert third >= 0.4
    assert running.intake.of(FeedGap)[0].cause == "stale"
    await running.close()


async def test_a_stream_whose_book_has_a_hole_is_asked_for_again_alone(server: Server) -> None:
    running = Running(server, "ab", channels=("trades", "order_book"), numbered=True)
    await running.until(lambda: len(server.subscribed()) == 4)
    await server.send(["book", "a", 1, "snapshot"], ["book", "a", 2, ""], ["book", "b", 5, "snapshot"])
    await server.send(["book", "a", 4, ""], ["trade", "a", 1])
    await running.until(lambda: len(server.asked) == 3)
    await server.send(["book", "a", 5, ""], ["book", "b", 6, ""], ["book", "a", 9, "snapshot"])
    await running.until(lambda: len(running.intake.of(BookSnapshot)) == 5)

    assert server.asked[1:] == [("unsubscribe", [("order_book", "a")]), ("subscribe", [("order_book", "a")])]
    found = [(book.symbol, book.sequence) for book in running.intake.of(BookSnapshot)]
    assert found == [("A/X", 1), ("A/X", 2), ("B/X", 5), ("B/X", 6), ("A/X", 9)]
    assert [(gap.symbol, gap.channel, gap.cause) for gap in running.intake.of(FeedGap)] == [
        ("A/X", "order_book", "book_broken")
    ] * 2
    assert running.ledger.counts.book_resyncs == {"sequence": 1}
    assert len(server.sockets) == 1
    await running.close()


async def test_a_book_over_rest_is_asked_for_until_it_comes_and_fits(server: Server) -> None:
    server.answer = lambda _kind, _streams: [["notice", "subscribed", None]]
    running = Running(server, "a", channels=("order_book",), numbered=True, book_over_rest=True)
    await running.until(lambda: len(running.rest_asked) >= 3)  # it fails, and is asked again
    running.rest["A/X"] = RateLimited("too many", 0.01)
    asked = len(running.rest_asked)
    await running.until(lambda: len(running.rest_asked) > asked)
    assert running.intake.of(BookSnapshot) == []

    running.rest["A/X"] = {"bids": [(2.0, 5.0)], "asks": [(3.0, 5.0)], "nonce": 7, "timestamp": None}
    await running.until(lambda: running.intake.of(BookSnapshot))
    await server.send(["book", "a", 8, ""])
    await running.until(lambda: len(running.intake.of(BookSnapshot)) == 2)

    first, second = running.intake.of(BookSnapshot)
    assert (first.bids, first.sequence) == ((("2.0", "5.0"),), 7)
    assert (second.bids, second.sequence) == ((("2.0", "5.0"), ("1.0", "8")), 8)
    assert running.ledger.counts.book_resyncs == {}
    await running.close()


async def test_nothing_is_left_behind(server: Server) -> None:
    before = asyncio.all_tasks()
    running = Running(server, "abc", channels=("trades", "order_book"), streams_per_socket=2, order_book_interval_ms=50)
    await running.until(lambda: len(server.subscribed()) == 6)

    await running.close()

    mine = {
        task
        for task in asyncio.all_tasks() - before
        if "Server._serve" not in repr(task) and "aiohttp" not in repr(task)
    }
    assert mine == set()


async def test_a_stop_does_not_wait_for_a_dial_that_nobody_answers(server: Server) -> None:
    with create_server(("127.0.0.1", 0)) as listening:  # nobody accepts
        server.url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        running = Running(server, "a")
        await running.until(lambda: any("dial" in task.get_name() for task in asyncio.all_tasks()))

        async with asyncio.timeout(limit_s(1)):
            await running.close()
