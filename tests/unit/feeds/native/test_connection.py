"""Connecting, serving and reconnecting. No network: the dial is replaced, and waits pass on a clock of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.native import connection
from ingestd.feeds.native.connection import Connection, Frames, Sender
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.native.socket import Socket
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.pace import Pace
from ingestd.records import FeedGap, Trade
from ingestd.retry import SETTLED_S, Backoff
from ingestd.venues.messages import Decoder, FrameNumber, Message, Notice
from ingestd.venues.venue import Asked, KeepAlive, Limits, Venue
from tests.unit.feeds.doubles import ListIntake

URL = "wss://venue.example/ws"
STALE_AFTER_S = 30.0
LIMITS = Limits(
    streams_per_socket=3, streams_per_message=10, messages_per_s=10.0, sockets_per_s=1e9, source="this test"
)


class Scripted(Venue):
    """Its frames are the messages themselves."""

    exchange = "venue"
    channels = frozenset({"trades"})
    markets = frozenset({"spot"})
    limits = LIMITS

    def __init__(self, keep_alive: KeepAlive | None = None) -> None:
        self.keep_alive = keep_alive

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        return [f"{operation} {' '.join(asked.market_id for asked in streams)}".encode()]

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        return decode


class Greeting(Scripted):
    def greeting(self) -> list[bytes]:
        return [b"hello"]


def decode(frame: bytes, received_at: int) -> Sequence[Message]:
    """A trade of the market that it names, or what JSON says: a frame's number, or a notice's kind and market."""
    if frame.startswith(b"trade "):
        return [Trade("venue", frame[6:].decode().upper(), received_at, received_at, "1", 1, "buy", "1", "2")]
    match json.loads(frame):
        case int(number):
            return [FrameNumber(number)]
        case [kind, market]:
            return [Notice(kind, "because", market)]
    raise ValueError("no frame of this venue")


class Clock(Stop):
    """Each wait passes at once, on a clock of its own. Stops by itself after `STOP_AFTER_S`."""

    STOP_AFTER_S = 10_000.0

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.slept_s: list[float] = []  # without waiting for anything
        self.each_look: Callable[[float], None] = lambda _now_s: None

    async def sleep(self, seconds: float) -> bool:
        if seconds and not self.is_set():
            self.slept_s.append(seconds)
        self._pass(seconds)
        await asyncio.sleep(0)
        return not self.is_set()

    async def sleep_or(self, event: asyncio.Event, seconds: float) -> None:
        self.each_look(self.now_s)
        if not event.is_set():
            self._pass(seconds)
        await asyncio.sleep(0)

    def _pass(self, seconds: float) -> None:
        self.now_s += seconds
        if self.now_s > self.STOP_AFTER_S:
            self.set()


class FakeSocket(Socket):
    """Notes what is sent, and brings what `answer` makes of it."""

    def __init__(self, on_frame: Any, after_read: Any, on_lost: Any) -> None:
        super().__init__(on_frame, after_read, on_lost)
        self.sent: list[str] = []
        self.answer: Callable[[str], Sequence[str]] = lambda _text: ()
        self.bring = on_frame
        self.read_ends = after_read
        self.reading: list[str] = []

    def send(self, text: bytes) -> None:
        self.sent.append(text.decode())
        for frame in self.answer(text.decode()):
            self.bring(frame.encode())

    def ping(self) -> None:
        self.sent.append("(ping)")

    def pause(self) -> None:
        self.reading.append("pause")

    def resume(self) -> None:
        self.reading.append("resume")


class Rig:
    """A connection of the streams a and b. `dials` is what the next dials raise; None, and after them: a socket."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, venue: Venue | None = None) -> None:
        self.clock = Clock()
        self.sockets: list[FakeSocket] = []
        self.dials: list[Exception | None] = []
        self.blocked = False
        self.asked: list[str] = []
        self.answer: Callable[[str], Sequence[str]] = lambda _text: ()
        self.intake = ListIntake()
        made = venue or Scripted()
        config = FeedConfig(exchange="venue", symbols=["*"], channels=["trades"], stale_after_s=STALE_AFTER_S)
        self.reader = MessageReader(config, made, self.intake)
        monkeypatch.setattr(connection, "connect", self.connect)
        monkeypatch.setattr(connection, "monotonic_s", lambda: self.clock.now_s)
        monkeypatch.setattr(connection, "Backoff", lambda: Backoff(base_s=1.0, draw=lambda: 1.0))
        self.connection = Connection(
            URL,
            config=config,
            venue=made,
            reader=self.reader,
            dials=Pace(1e9),
            must_pause=lambda: self.blocked,
            on_asked=lambda streams: self.asked.extend(stream.symbol for stream in streams),
        )
        for market in "ab":
            self.connection.add(Asked("trades", market), self.stream(market))

    def stream(self, market: str) -> Stream:
        return self.reader.add_stream("trades", market.upper())

    async def connect(self, url: str, *callbacks: Any) -> FakeSocket:
        assert url == URL
        error = self.dials.pop(0) if self.dials else None
        if error is not None:
            raise error
        self.sockets.append(FakeSocket(*callbacks))
        self.sockets[-1].answer = self.answer
        return self.sockets[-1]

    async def run(self, *steps: Callable[[FakeSocket], Any]) -> None:
        """Do one step at each look of the connection at its newest socket, then stop."""
        left = list(steps)

        def look(_now_s: float) -> None:
            if left:
                left.pop(0)(self.sockets[-1])
            else:
                self.clock.set()

        self.clock.each_look = look
        await self.connection.run(self.clock)

    def gaps(self) -> list[tuple[str, str]]:
        return [(gap.symbol, gap.cause) for gap in self.intake.of(FeedGap)]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def nothing(_socket: FakeSocket) -> None:
    """Let time pass."""


def lose(socket: FakeSocket) -> None:
    socket.abandon("cut")


def bring(*frames: str) -> Callable[[FakeSocket], None]:
    return lambda socket: [socket.bring(frame.encode()) for frame in frames]  # type: ignore[return-value]


async def test_it_asks_for_its_streams_and_hands_over_what_comes(rig: Rig) -> None:
    await rig.run(bring("trade a", "trade b"))

    assert rig.sockets[0].sent == ["subscribe a b"]
    assert [trade.symbol for trade in rig.intake.of(Trade)] == ["A", "B"]
    assert rig.gaps() == []
    assert not rig.connection.is_connected


async def test_a_venue_that_must_be_greeted_is_greeted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, Greeting())
    await rig.run(nothing)

    assert rig.sockets[0].sent == ["hello", "subscribe a b"]


async def test_a_lost_socket_is_a_gap_and_everything_is_asked_for_on_the_next_one(rig: Rig) -> None:
    await rig.run(bring("trade a"), lose, bring("trade a"))

    assert [socket.sent for socket in rig.sockets] == [["subscribe a b"]] * 2
    assert rig.gaps() == [("A", "disconnect"), ("B", "disconnect"), ("A", "disconnect")]  # that of A has ended
    assert (rig.reader.ledger.counts.connects, rig.reader.ledger.counts.disconnects) == (2, 1)


async def test_the_delay_doubles_while_dials_fail_and_a_rate_limit_adds_to_it(rig: Rig) -> None:
    rig.dials = [FeedError("refused"), FeedError("refused"), RateLimited("banned", 120.0), FeedError("refused")]
    await rig.run(nothing)

    assert rig.clock.slept_s[:4] == [1.0, 2.0, 124.0, 8.0]
    assert rig.reader.ledger.counts.disconnects == 0
    assert rig.gaps() == [("A", "disconnect"), ("B", "disconnect")]


async def test_the_delay_starts_over_after_a_socket_that_delivered_for_a_while(rig: Rig) -> None:
    rig.dials = [FeedError("refused")] * 3
    await rig.run(bring("trade a"), *[nothing] * int(SETTLED_S - 2), bring("trade a"), nothing, nothing, lose, nothing)

    assert [seconds for seconds in rig.clock.slept_s if seconds >= 1] == [1.0, 2.0, 4.0, 1.0]


async def test_the_delay_goes_on_growing_after_a_socket_that_brought_nothing(rig: Rig) -> None:
    await rig.run(lose, lose, nothing)

    assert [seconds for seconds in rig.clock.slept_s if seconds >= 1] == [1.0, 2.0]


async def test_a_mistake_in_the_program_is_not_retried(rig: Rig) -> None:
    rig.dials = [KeyError("a mistake")]

    with pytest.raises(KeyError, match="a mistake"):
        await rig.run()


async def test_a_stop_ends_a_dial_that_nobody_answers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_arguments: Any) -> FakeSocket:
        rig.clock.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    monkeypatch.setattr(connection, "connect", never)
    await rig.connection.run(rig.clock)

    assert rig.gaps() == []


async def test_it_ends_when_no_stream_is_left_and_then_takes_none(rig: Rig) -> None:
    def drop_all(_socket: FakeSocket) -> None:
        for asked in list(rig.connection.streams):
            rig.connection.drop(asked)

    await rig.run(bring("trade a"), drop_all)

    assert not rig.clock.is_set()
    assert rig.connection.room == 0
    assert rig.gaps() == []


async def test_what_is_added_and_dropped_is_asked_for_and_ended_on_the_same_socket(rig: Rig) -> None:
    def change(_socket: FakeSocket) -> None:
        rig.connection.drop(Asked("trades", "a"))
        rig.connection.add(Asked("trades", "c"), rig.stream("c"))

    await rig.run(change, nothing)

    assert rig.sockets[0].sent == ["subscribe a b", "unsubscribe a", "subscribe c"]


async def test_one_stream_is_asked_for_anew(rig: Rig) -> None:
    await rig.run(lambda _socket: rig.connection.ask_again(Asked("trades", "b")), nothing)

    assert rig.sockets[0].sent == ["subscribe a b", "unsubscribe b", "subscribe b"]


@pytest.mark.parametrize(("text", "sent"), [(b"still here", "still here"), (None, "(ping)")])
async def test_a_keep_alive_is_sent_when_it_is_due(
    monkeypatch: pytest.MonkeyPatch, text: bytes | None, sent: str
) -> None:
    rig = Rig(monkeypatch, Scripted(KeepAlive(5.0, text)))
    await rig.run(*[bring("trade a")] * 12)

    assert rig.sockets[0].sent == ["subscribe a b", sent, sent]


async def test_a_silent_socket_is_given_up(rig: Rig) -> None:
    await rig.run(bring("trade a", "trade b"), *[nothing] * int(STALE_AFTER_S + 1), nothing)

    assert len(rig.sockets) == 2
    assert rig.sockets[0].reason.startswith("no data for ")
    assert rig.reader.ledger.counts.stale_reconnects == 1
    assert rig.gaps()[:2] == [("A", "stale"), ("B", "stale")]


async def test_a_socket_may_be_silent_while_all_its_streams_are_refused(rig: Rig) -> None:
    """They are asked for again a minute later; no new socket would bring them sooner."""
    rig.answer = lambda text: [f'["refused", "{market}"]' for market in text.split()[1:]]
    await rig.run(*[nothing] * 60)

    assert len(rig.sockets) == 1
    assert rig.sockets[0].sent == ["subscribe a b", *["subscribe a", "subscribe b"] * 2]
    assert rig.reader.ledger.counts.stale_reconnects == 0


async def test_reading_pauses_after_a_read_while_there_is_no_room(rig: Rig) -> None:
    def read(socket: FakeSocket) -> None:
        socket.read_ends(socket)
        rig.blocked = True
        socket.read_ends(socket)
        rig.connection.resume()

    await rig.run(read)

    assert rig.sockets[0].reading == ["pause", "resume"]


async def test_a_refused_stream_is_asked_for_three_times_and_shown(rig: Rig) -> None:
    rig.answer = lambda text: ['["refused", "b"]'] if "b" in text.split() else []
    await rig.run(*[bring("trade a")] * 30)

    assert rig.sockets[0].sent == ["subscribe a b", "subscribe b", "subscribe b"]
    shown = {stream.symbol: stream.quarantined for stream in rig.reader.ledger.all_streams()}
    assert shown == {"A": None, "B": "because"}
    assert rig.gaps() == [("B", "not_subscribed")]


async def test_keep_alives_are_sent_while_a_refusal_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, Scripted(KeepAlive(3.0, b"still here")))
    await rig.run(bring('["refused", null]'), *[nothing] * 4)

    assert rig.sockets[0].sent == ["subscribe a b", "subscribe a", "still here"]


async def test_a_refused_stream_that_delivers_is_not_asked_for_again(rig: Rig) -> None:
    await rig.run(bring('["refused", "b"]'), nothing, bring("trade a", "trade b"), *[nothing] * 10)

    assert rig.sockets[0].sent == ["subscribe a b"]


async def test_its_owner_hears_what_was_asked_for_once_the_venue_answers(rig: Rig) -> None:
    await rig.run(bring('["subscribed", null]'), bring('["subscribed", null]'))

    assert rig.asked == ["A", "B"]


async def test_its_owner_hears_it_also_from_a_venue_that_never_answers(rig: Rig) -> None:
    await rig.run(*[bring("trade a")] * 8)

    assert rig.asked == ["A", "B"]


async def test_a_restart_that_the_venue_announces_is_a_reconnect(rig: Rig) -> None:
    await rig.run(bring('["restarting", null]'), nothing)

    assert len(rig.sockets) == 2
    assert rig.sockets[0].reason == "the venue announced that it closes this socket: because"


async def test_a_frame_that_is_missing_is_a_gap_and_a_reconnect(rig: Rig) -> None:
    await rig.run(bring("trade a", "5", "6"), bring("8"), nothing)

    assert len(rig.sockets) == 2
    assert rig.sockets[0].reason == "frames are missing: expected number 7, received 8"
    assert rig.gaps()[:2] == [("A", "disconnect"), ("B", "disconnect")]


async def test_a_socket_is_given_up_on_request(rig: Rig) -> None:
    await rig.run(lambda _socket: rig.connection.give_up("its book is wrong"), nothing)

    assert [socket.reason for socket in rig.sockets] == ["its book is wrong", "closed here"]


def test_a_bad_frame_costs_that_frame(rig: Rig) -> None:
    rig.stream("a")
    frames = Frames(URL, decode, rig.reader, lambda _notice: None, lambda _reason: None)
    for frame in (b"trade a", b"{{{", b"trade a"):
        frames.take(frame)

    assert frames.with_data == 2
    assert rig.reader.ledger.counts.malformed_frames == 1


async def test_messages_are_sent_no_faster_than_the_venue_allows(rig: Rig) -> None:
    socket = FakeSocket(None, None, None)
    sender = Sender(socket, LIMITS, rig.clock)

    assert await sender.send([b"1", b"2", b"3"])
    assert socket.sent == ["1", "2", "3"]
    assert rig.clock.slept_s == pytest.approx([0.1, 0.1])


async def test_of_several_limits_each_holds(rig: Rig) -> None:
    rig.clock.now_s = 5000.0
    sender = Sender(FakeSocket(None, None, None), replace(LIMITS, messages_per_hour=4), rig.clock)

    assert await sender.send([b"1", b"2", b"3", b"4"])
    assert rig.clock.slept_s == pytest.approx([0.1, 1799.9, 1800.0])


async def test_nothing_is_sent_on_a_lost_socket(rig: Rig) -> None:
    socket = FakeSocket(None, None, lambda: None)
    sender = Sender(socket, LIMITS, rig.clock)
    socket.lost.set()

    assert not await sender.send([b"1"])
    assert socket.sent == []
