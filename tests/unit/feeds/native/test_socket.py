"""The WebSocket itself: messages in parts, closes, what is too large or not agreed on, reading that is paused, TLS."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from socket import create_server
from typing import Any

import picows
import pytest
from picows import WSListener, WSMsgType, WSTransport

from ingestd.errors import FeedError
from ingestd.feeds.native.socket import Socket, connect, tls_context
from ingestd.feeds.wire_limits import MAX_MESSAGE_BYTES
from tests.support.certificates import self_signed

WITHIN_S = 60.0


class Peer(WSListener):
    """The server's end of the newest connection."""

    def __init__(self) -> None:
        self.transport: WSTransport | None = None
        self.received: list[tuple[Any, bytes]] = []
        self.gone = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: picows.WSFrame) -> None:
        self.received.append((frame.msg_type, frame.get_payload_as_bytes()))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone = True

    def send(self, data: bytes, kind: Any = WSMsgType.TEXT, **flags: bool) -> None:
        assert self.transport is not None
        self.transport.send(kind, data, **flags)


class Wire:
    """A socket and its peer."""

    def __init__(self) -> None:
        self.peer = Peer()
        self.frames: list[bytes] = []
        self.reads = 0
        self.lost = 0
        self.url = ""
        self.socket: Socket | None = None
        self.server: asyncio.Server | None = None

    async def open(self, context: ssl.SSLContext | None = None, scheme: str = "ws") -> None:
        self.server = await picows.ws_create_server(
            lambda _request: self.peer, "127.0.0.1", 0, ssl=context, enable_auto_pong=False
        )
        self.url = f"{scheme}://localhost:{self.server.sockets[0].getsockname()[1]}/ws"

    async def dial(self) -> Socket:
        self.socket = await connect(self.url, self.frames.append, self._after_read, self._on_lost)
        return self.socket

    def _after_read(self, _socket: Socket) -> None:
        self.reads += 1

    def _on_lost(self) -> None:
        self.lost += 1

    async def close(self) -> None:
        if self.socket is not None:
            await self.socket.close()
        if self.server is not None:
            self.server.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    await made.open()
    yield made
    await made.close()


async def test_messages_come_in_order_whole_or_in_parts(wire: Wire) -> None:
    await wire.dial()
    wire.peer.send(b"one")
    wire.peer.send(b"tw", fin=False)
    wire.peer.send(b"", WSMsgType.PING)  # a control frame may come between the parts
    wire.peer.send(b"", WSMsgType.CONTINUATION, fin=False)
    wire.peer.send(b"o", WSMsgType.CONTINUATION)
    wire.peer.send(b"three", WSMsgType.BINARY)
    await until(lambda: len(wire.frames) == 3)

    assert wire.frames == [b"one", b"two", b"three"]
    assert wire.reads >= 1
    await until(lambda: (WSMsgType.PONG, b"") in wire.peer.received)


async def test_it_sends_texts_and_pings(wire: Wire) -> None:
    socket = await wire.dial()
    socket.send(b'{"op":"ping"}')
    socket.ping()
    await until(lambda: len(wire.peer.received) == 2)

    assert wire.peer.received == [(WSMsgType.TEXT, b'{"op":"ping"}'), (WSMsgType.PING, b"")]


async def test_a_close_is_told_once_with_what_the_venue_said(wire: Wire) -> None:
    socket = await wire.dial()
    assert wire.peer.transport is not None
    wire.peer.transport.send_close(picows.WSCloseCode.GOING_AWAY, b"maintenance")
    await asyncio.wait_for(socket.lost.wait(), WITHIN_S)
    await until(lambda: wire.peer.gone)

    assert "1001" in socket.reason
    assert "maintenance" in socket.reason
    assert wire.lost == 1
    socket.send(b"too late")


async def test_a_connection_that_is_cut_is_told(wire: Wire) -> None:
    socket = await wire.dial()
    assert wire.peer.transport is not None
    wire.peer.transport.underlying_transport.abort()
    await asyncio.wait_for(socket.lost.wait(), WITHIN_S)

    assert wire.lost == 1


@pytest.mark.parametrize("parts", [1, 2])
async def test_what_is_too_large_ends_the_connection(wire: Wire, parts: int) -> None:
    socket = await wire.dial()
    size = MAX_MESSAGE_BYTES // parts + 1
    for part in range(parts):
        kind = WSMsgType.TEXT if part == 0 else WSMsgType.CONTINUATION
        wire.peer.send(b" " * size, kind, fin=part == parts - 1)
    await asyncio.wait_for(socket.lost.wait(), WITHIN_S)

    assert wire.frames == []


async def test_what_is_compressed_without_an_agreement_ends_the_connection(wire: Wire) -> None:
    socket = await wire.dial()
    wire.peer.send(b"\x4a\x4c", rsv1=True)
    await asyncio.wait_for(socket.lost.wait(), WITHIN_S)

    assert wire.frames == []


async def test_nothing_is_handed_over_after_it_was_abandoned(wire: Wire) -> None:
    socket = await wire.dial()
    wire.peer.send(b"one")
    await until(lambda: wire.frames)
    socket.abandon("silent")
    wire.peer.send(b"two")
    await socket.close()

    assert wire.frames == [b"one"]
    assert socket.reason == "silent"
    await until(lambda: wire.peer.gone)


async def test_while_it_is_paused_the_peer_keeps_what_it_sends(wire: Wire) -> None:
    """More than the buffers of both kernels hold: what is left stays with the peer's transport."""
    socket = await wire.dial()
    socket.pause()
    message = b"x" * 2**20
    for _ in range(64):
        wire.peer.send(message)
    assert wire.peer.transport is not None
    for _ in range(100):
        await asyncio.sleep(0)
    held = wire.peer.transport.underlying_transport.get_write_buffer_size()
    assert wire.frames == []
    assert held > 2**20

    socket.resume()
    await until(lambda: len(wire.frames) == 64)


class Burst:
    """What a connection hands over, when each frame takes a while to be worked off."""

    def __init__(self, after_read: Callable[[Socket], None] = lambda _socket: None) -> None:
        self.after_read = after_read
        self.taken: list[int] = []
        self.lost = asyncio.Event()

    def take(self, frame: bytes) -> None:
        self.taken.append(int(frame))
        busy_until_s = time.perf_counter() + 0.0001
        while time.perf_counter() < busy_until_s:
            pass

    async def sent(self, wire: Wire, count: int, *, then_close: bool = False) -> Socket:
        socket = wire.socket = await connect(wire.url, self.take, lambda read: self.after_read(read), self.lost.set)
        assert wire.peer.transport is not None
        for number in range(count):
            wire.peer.send(b"%d" % number)
        if then_close:
            wire.peer.transport.send_close(picows.WSCloseCode.GOING_AWAY, b"maintenance")
            wire.peer.transport.disconnect()
        return socket


async def test_what_one_read_brings_leaves_turns_to_other_work(wire: Wire) -> None:
    burst, seen = Burst(), []
    await burst.sent(wire, 2000)
    while len(burst.taken) < 2000:
        await asyncio.sleep(0)
        seen.append(len(burst.taken))

    assert burst.taken == list(range(2000))
    assert max(after - before for before, after in pairwise(seen)) < 500


async def test_what_was_read_before_the_venue_hangs_up_is_handed_over(wire: Wire) -> None:
    burst = Burst()
    await burst.sent(wire, 2000, then_close=True)
    await asyncio.wait_for(burst.lost.wait(), WITHIN_S)
    assert burst.taken == list(range(2000))


async def test_a_burst_waits_while_it_is_paused_and_goes_on_in_order(wire: Wire) -> None:
    burst = Burst(after_read=lambda socket: socket.pause())
    socket = await burst.sent(wire, 2000)
    await until(lambda: socket.is_paused)
    taken = len(burst.taken)
    await asyncio.sleep(0.02)
    assert 0 < taken == len(burst.taken) < 2000

    burst.after_read = lambda _socket: None
    socket.resume()
    await until(lambda: len(burst.taken) == 2000)
    assert burst.taken == list(range(2000))


async def test_nothing_of_a_burst_is_handed_over_once_it_is_given_up(wire: Wire) -> None:
    burst = Burst()
    socket = await burst.sent(wire, 2000)
    await until(lambda: burst.taken)
    socket.abandon("silent")
    taken = len(burst.taken)
    await asyncio.sleep(0.02)
    assert len(burst.taken) == taken < 2000


async def test_what_does_not_answer_is_an_error_of_ours(wire: Wire) -> None:
    await wire.close()
    with pytest.raises(FeedError):
        await wire.dial()


async def test_a_server_that_never_answers_the_handshake_is_given_up() -> None:
    listening = create_server(("127.0.0.1", 0))  # nobody accepts
    url = f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"

    with pytest.raises(FeedError):
        await connect(url, lambda _frame: None, lambda _socket: None, lambda: None, within_s=0.1)
    listening.close()


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tls_context.cache_clear()
    wire = Wire()
    await wire.open(context, "wss")
    if trusted:
        socket = await wire.dial()
        wire.peer.send(b"secret")
        await until(lambda: wire.frames == [b"secret"])
        socket.pause()
        socket.resume()
    else:
        with pytest.raises(FeedError, match="certificate"):
            await wire.dial()
    tls_context.cache_clear()
    await wire.close()
