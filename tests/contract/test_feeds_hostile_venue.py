"""A venue, or who stands between, that sends what nobody should take: each feed goes on, and says what it refused."""

from __future__ import annotations

import asyncio
import gzip
import resource
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from structlog.testing import capture_logs

from ingestd.feeds.ccxt import subscription
from ingestd.feeds.wire_limits import MAX_REPLY_BYTES
from ingestd.ops.metrics import Metrics
from ingestd.records import Trade
from ingestd.retry import Backoff
from tests.support.exposed import exposed
from tests.support.feeds import DECODERS
from tests.support.raw_venue import MARKETS, RawVenue, Running, Speak, frame, reply, trade
from tests.support.time_limits import cases, within

MIB = 2**20
LONGEST_TURN_S = 0.5  # of processor time; it is a tenth of that, and the watchdog waits for 20
MOST_GROWTH_MIB = 100


@pytest.fixture
def venue() -> Iterator[RawVenue]:
    made = RawVenue()
    yield made
    made.close()


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def quick_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(**_: object) -> Backoff:
        return Backoff(base_s=0.001, cap_s=0.005)

    for module in ("ccxt.feed", "ccxt.market_loader", "native.connection"):
        monkeypatch.setattr(f"ingestd.feeds.{module}.Backoff", quick)
    real = subscription.Subscription.__init__
    monkeypatch.setattr(
        subscription.Subscription,
        "__init__",
        lambda self, *a, **k: real(self, *a, **{**k, "backoff": quick}),
    )


@pytest.fixture
async def thief() -> AsyncIterator[list[str]]:
    """The address of a server that nobody may be sent to, and then whoever came."""
    came: list[str] = []

    async def took(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append((await reader.readline()).decode())
        writer.write(reply(MARKETS, "Content-Type: application/json"))
        writer.close()

    server = await asyncio.start_server(took, "127.0.0.1", 0)
    came.append(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield came
    server.close()


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


FLOODS = {
    "empty fragments": (frame(b"", fin=False), frame(b"", 0, fin=False) * 4096, False),
    "fragments of two bytes": (frame(b"", fin=False), frame(b"ab", 0, fin=False) * 4096, False),
    "messages in tiny fragments": (
        b"",
        (frame(b"", fin=False) + frame(b"", 0, fin=False) * 100 + frame(b"{}", 0)) * 40,
        False,
    ),
    "pings, and no answer is read": (b"", frame(b"p" * 125, 9) * 500, False),
    "pings, and the answers are read": (b"", frame(b"", 9) * 2000, True),
    "pongs": (b"", frame(b"", 10) * 4096, False),
    "pongs between messages": (b"", (frame(b"{}") + frame(b"", 10) * 100) * 40, False),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_frames_costs_its_socket_and_nothing_else(venue: RawVenue, decoder: str, name: str) -> None:
    first, again, reads = FLOODS[name]
    venue.streams.append(venue.endlessly(again, after=first, reads=reads))
    before_mib = peak_mib()
    running = Running(venue, decoder)
    await running.until(lambda: running.intake.of(Trade))  # of the socket after it

    assert running.feed.status().disconnects == 1
    assert within(running.held_up_s, LONGEST_TURN_S)
    assert peak_mib() - before_mib < MOST_GROWTH_MIB
    await running.close()


@pytest.mark.parametrize("price", ["1e-2000000000", "1e2000000000"])
async def test_a_number_that_would_fill_the_memory_is_not_written_out(
    venue: RawVenue, decoder: str, price: str
) -> None:
    """The exchange library multiplies price and amount, and writes the product digit by digit."""
    text = '{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":6,"p":"%s","q":"2.000","T":1672515782136,"m":false}'

    def speak(connection: socket.socket) -> None:
        connection.sendall(frame((text % price).encode()) + trade(7))
        while connection.recv(2**16):
            pass

    venue.streams.append(speak)
    before_mib = peak_mib()
    running = Running(venue, decoder)
    await running.until(lambda: any(one.trade_id == "7" for one in running.intake.of(Trade)))

    assert running.feed.status().disconnects == 0
    assert within(running.held_up_s, LONGEST_TURN_S)
    assert peak_mib() - before_mib < MOST_GROWTH_MIB
    await running.close()


@pytest.mark.parametrize("data", cases([b"", b"{"], [b"nonsense"]), ids=repr)
async def test_endless_messages_that_say_nothing_leave_turns_to_others(
    venue: RawVenue, decoder: str, data: bytes
) -> None:
    """They cost their socket too, when it has brought no data for long enough."""
    venue.streams.append(venue.endlessly(frame(data) * 4096))
    before_mib = peak_mib()
    running = Running(venue, decoder, stale_after_s=0.5)
    await running.until(lambda: running.intake.of(Trade))

    assert within(running.held_up_s, LONGEST_TURN_S)
    assert peak_mib() - before_mib < MOST_GROWTH_MIB
    await running.close()


async def test_a_message_in_many_frames_is_taken(venue: RawVenue, decoder: str) -> None:
    """A byte a frame, and pings between: that is allowed, and some servers cut a long message into hundreds."""
    text = b'{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":7,"p":"7.6110","q":"2.000","T":1672515782136,"m":false}'
    long = b'{"x":"' + b"y" * MIB + b'"}'

    def speak(connection: socket.socket) -> None:
        for part in range(0, len(long), 2048):
            connection.sendall(frame(long[part : part + 2048], 0 if part else 1, fin=part + 2048 >= len(long)))
        for place in range(len(text)):
            connection.sendall(frame(text[place : place + 1], 0 if place else 1, fin=place == len(text) - 1))
            connection.sendall(frame(b"", 9) if place % 10 == 0 else b"")
        while connection.recv(2**16):
            pass

    venue.streams.append(speak)
    running = Running(venue, decoder)
    await running.until(lambda: running.intake.of(Trade))

    assert [one.trade_id for one in running.intake.of(Trade)] == ["7"]
    assert running.feed.status().disconnects == 0
    await running.close()


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 100_000, id="headers without end"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"y" * MIB, id="a header without end"),
        pytest.param(b"HTTP/1.1 " + b"1" * MIB, id="a status without end"),
    ],
)
async def test_a_handshake_without_end_is_given_up(venue: RawVenue, decoder: str, speak: bytes) -> None:
    def and_wait(connection: socket.socket) -> None:
        connection.sendall(speak)
        connection.recv(1)  # hung up

    venue.handshakes.append(and_wait)
    running = Running(venue, decoder)
    await running.until(lambda: running.intake.of(Trade))
    assert venue.dials == 2
    await running.close()


# ---- REST replies


def bomb(wbits: int, size: int = MAX_REPLY_BYTES + 1) -> bytes:
    """So many blanks, packed."""
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join(packer.compress(b" " * MIB) for _ in range(size // MIB + 1)) + packer.flush()


def chunked(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n")
    while True:
        connection.sendall(b"100000\r\n" + b" " * MIB + b"\r\n")


REPLIES: dict[str, Callable[[], bytes | Speak]] = {
    "gzip": lambda: reply(bomb(31), "Content-Encoding: gzip"),
    "gzip in many members": lambda: reply(gzip.compress(b" " * MIB) * 40, "Content-Encoding: gzip"),
    "gzip in empty members": lambda: reply(gzip.compress(b"") * 100_000, "Content-Encoding: gzip"),
    "deflate": lambda: reply(bomb(15), "Content-Encoding: deflate"),
    "deflate without its header": lambda: reply(bomb(-15), "Content-Encoding: deflate"),
    "gzip in gzip": lambda: reply(gzip.compress(bomb(31)), "Content-Encoding: gzip, gzip"),
    "brotli": lambda: reply(b"\x1b\xff", "Content-Encoding: br"),
    "zstd": lambda: reply(b"\x28\xb5\x2f\xfd", "Content-Encoding: zstd"),
    "an error page": lambda: reply(bomb(31), "Content-Encoding: gzip", status="503 Service Unavailable"),
    "a million empty entries": lambda: reply(gzip.compress(b"[" + b"{}," * MIB + b"{}]"), "Content-Encoding: gzip"),
    "millions of numbers": lambda: reply(gzip.compress(b"[" + b"1," * 5 * MIB + b"1]"), "Content-Encoding: gzip"),
    "millions of fractions": lambda: reply(gzip.compress(b"[" + b"0.1," * 3_999_000 + b"1]"), "Content-Encoding: gzip"),
    "millions of names": lambda: reply(
        gzip.compress(b"{" + b",".join(b'"%06x":1' % n for n in range(1_500_000)) + b"}", 1), "Content-Encoding: gzip"
    ),
    "a length of exabytes": lambda: b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n\r\n",
    "chunks without end": lambda: chunked,
}


@pytest.mark.parametrize("name", REPLIES)
async def test_a_reply_that_is_too_much_is_refused_in_words(venue: RawVenue, name: str) -> None:
    """The list of markets: both feeds load it over the same client."""
    venue.replies.append(REPLIES[name]())
    before_mib = peak_mib()
    with capture_logs() as logs:
        running = Running(venue, "ccxt")
        await running.until(lambda: running.intake.of(Trade))
        await running.close()

    (refused,) = [line["error"] for line in logs if line["event"] == "markets_not_loaded"]
    assert "binanceusdm" in refused
    assert f"http://{venue.address}/fapi/v1/exchangeInfo is refused" in refused
    assert "url_map" in refused
    assert within(running.held_up_s, LONGEST_TURN_S)
    assert peak_mib() - before_mib < MOST_GROWTH_MIB


TOLD = ("markets_not_loaded", "market_list_missing", "unknown_symbol")


NO_LISTS = cases([b"[0.1,0.1]", b"null"], [b"1", b'"x"', b"[[1]]", b'{"symbols":7}'])  # each waits for the next try


@pytest.mark.parametrize("body", NO_LISTS, ids=repr)
async def test_a_reply_that_is_no_list_of_markets_is_told_in_words(venue: RawVenue, body: bytes) -> None:
    venue.replies.append(reply(body, "Content-Type: application/json"))
    with capture_logs() as logs:
        running = Running(venue, "ccxt")
        await running.until(lambda: running.intake.of(Trade))
        await running.close()

    refused = [line["error"] for line in logs if line["event"] == "markets_not_loaded"]
    assert not any("has no attribute" in error or "indices" in error for error in refused)
    assert [line for line in logs if line["event"] in TOLD], "a feed that follows nothing says why"


MESSAGES = {
    "empty objects": b'{"x":[' + b"{}," * (3 * MIB) + b"{}]}",
    "fractions": b'{"x":[' + b"0.1," * (2 * MIB) + b"0.1]}",
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_that_holds_too_much_is_passed_over(venue: RawVenue, decoder: str, name: str) -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(frame(MESSAGES[name]) + trade(7))
        while connection.recv(2**16):
            pass

    venue.streams.append(speak)
    before_mib = peak_mib()
    running = Running(venue, decoder)
    await running.until(lambda: running.intake.of(Trade))

    assert [one.trade_id for one in running.intake.of(Trade)] == ["7"]
    assert running.feed.status().disconnects == 0
    assert within(running.held_up_s, LONGEST_TURN_S)
    assert peak_mib() - before_mib < MOST_GROWTH_MIB
    await running.close()


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "raw deflate", "identity", "UTF-8"])
async def test_a_reply_that_is_packed_as_it_was_asked_for_is_read(venue: RawVenue, encoding: str) -> None:
    packer = zlib.compressobj(wbits={"deflate": 15, "raw deflate": -15}.get(encoding, 31))
    packed = packer.compress(MARKETS) + packer.flush()
    body = MARKETS if encoding in ("identity", "UTF-8") else packed
    venue.replies.append(reply(body, f"Content-Encoding: {encoding.removeprefix('raw ')}", "Content-Type: text/json"))
    running = Running(venue, "ccxt")
    await running.until(lambda: running.intake.of(Trade))
    await running.close()


async def test_a_reply_with_more_cookies_than_fit_into_a_request_spoils_no_later_one(venue: RawVenue) -> None:
    venue.replies.append(reply(b"", *[f"Set-Cookie: c{n}={'x' * 1000}" for n in range(60)], status="500 No"))
    port = venue.address.rpartition(":")[2]
    named = {  # the library takes no cookies from an address in numbers
        "https://fapi.binance.com": f"http://localhost:{port}",
        "wss://fstream.binance.com": f"ws://localhost:{port}",
    }
    running = Running(venue, "ccxt", url_map=named)
    await running.until(lambda: running.intake.of(Trade))
    await running.close()
    assert max(venue.header_bytes) < 1000


# ---- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_list_of_markets_is_fetched_from_no_other_server(
    venue: RawVenue, thief: list[str], status: int
) -> None:
    (elsewhere,) = thief
    venue.replies.append(reply(b"", f"Location: http://u:p@{elsewhere}/x?key=s", status=f"{status} Elsewhere"))
    with capture_logs() as logs:
        running = Running(venue, "ccxt")
        await running.until(lambda: running.intake.of(Trade))
        await running.close()

    (refused,) = [line["error"] for line in logs if line["event"] == "markets_not_loaded"]
    assert f"redirects to http://{elsewhere}/x: refused" in refused
    assert thief == [elsewhere]


@pytest.mark.parametrize("scheme", ["ws", "http", ""])
async def test_a_socket_is_dialled_on_no_other_server(
    venue: RawVenue, decoder: str, thief: list[str], scheme: str
) -> None:
    (elsewhere,) = thief
    location = f"{scheme}{':' if scheme else ''}//{elsewhere}/ws"
    venue.handshakes.append(reply(b"", f"Location: {location}", status="302 Found"))
    with capture_logs() as logs:
        running = Running(venue, decoder)
        await running.until(lambda: running.intake.of(Trade))
        await running.close()

    (reason,) = [line["reason"] for line in logs if line["event"] == "dial_failed"]
    assert elsewhere in reason
    assert "refused" in reason
    assert thief == [elsewhere]


async def test_a_redirect_on_the_same_server_is_followed(venue: RawVenue, decoder: str) -> None:
    venue.replies.append(reply(b"", "Location: /fapi/v1/exchangeInfo?moved", status="307 Moved"))
    venue.handshakes.append(reply(b"", "Location: /moved/ws", status="302 Found"))
    running = Running(venue, decoder)
    await running.until(lambda: running.intake.of(Trade))
    await running.close()

    assert "GET /fapi/v1/exchangeInfo?moved HTTP/1.1" in venue.requests
    assert "GET /moved/ws HTTP/1.1" in venue.requests
    assert running.feed.status().disconnects == 0


async def test_a_redirect_to_itself_is_followed_only_some_times(venue: RawVenue, decoder: str) -> None:
    venue.handshakes += [reply(b"", "Location: /moved/ws", status="302 Found")] * 6
    running = Running(venue, decoder)
    await running.until(lambda: running.intake.of(Trade))
    await running.close()


# ---- waits that a venue names


FOR_EVER = cases(["1e308", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"], ["Infinity", "9" * 400, "4000000000"])
NOT_LONG = cases(
    ["nan", "-1e308", "soon", "\xff"],
    ["-1", "", "0", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 99 Foo 99999 99:99:99"],
)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is an hour for a venue is a moment here."""
    monkeypatch.setattr("ingestd.retry.LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr("ingestd.errors.RATE_LIMIT_PAUSE_S", 0.01)


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize(
    ("status", "said"), [*((429, said) for said in FOR_EVER + NOT_LONG), (418, "1e308"), (503, "1e308")]
)
async def test_a_refused_handshake_is_dialled_again_whatever_wait_it_names(
    venue: RawVenue, decoder: str, said: str, status: int
) -> None:
    venue.handshakes.append(reply(b"", f"Retry-After: {said}", status=f"{status} No"))
    running = Running(venue, decoder)
    with capture_logs() as logs:
        await running.until(lambda: running.intake.of(Trade))
    metrics = Metrics()
    metrics.watch_feed(running.feed.status)
    await running.close()

    is_cut = said in FOR_EVER and status != 503
    if status != 503:
        assert f'ingestd_feed_waits_cut_total{{feed="binanceusdm"}} {is_cut:.1f}' in exposed(metrics)
    if is_cut:
        assert any("asks for a wait" in str(line) or line["event"] == "wait_cut" for line in logs)


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("said", FOR_EVER + NOT_LONG)
async def test_a_refused_request_is_sent_again_whatever_wait_it_names(venue: RawVenue, said: str) -> None:
    venue.replies.append(reply(b"{}", f"Retry-After: {said}", status="429 Too Many Requests"))
    running = Running(venue, "ccxt")
    await running.until(lambda: running.intake.of(Trade))
    await running.close()

    assert running.feed.status().waits_cut == (said in FOR_EVER)
