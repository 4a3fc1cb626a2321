"""What a venue's transport may bring: frames, replies, headers. The targets are in `targets.py`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from aiohttp import WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from picows import WSMsgType as NativeType
from yarl import URL

from ingestd import retry
from ingestd.errors import RedirectRefused
from ingestd.feeds.ccxt.bounded_http import BoundedReader
from ingestd.feeds.ccxt.unpacking import Reply
from ingestd.feeds.native.socket import FrameListener, Socket
from ingestd.feeds.urls import redirected, shown
from ingestd.feeds.wire_limits import MAX_MESSAGE_BYTES
from tests.support.raw_venue import frame

_NOW = datetime(2026, 9, 21, tzinfo=UTC)
_TEXT, _CONTINUATION, _PING, _PONG = 1, 0, 9, 10
# What a byte stands for: opcode, whether it is the last of its message, how many of them.
_STEPS = (
    (_TEXT, True, 1),
    (_TEXT, False, 1),
    (_CONTINUATION, False, 1),
    (_CONTINUATION, True, 1),
    (_PING, True, 1),
    (_PONG, True, 1),
    (_CONTINUATION, False, 300),
    (_PONG, True, 1100),
)
REPLY_LIMIT = 4096


class _Transport:
    """The native socket's side of the wire: it is written to, and hung up."""

    underlying_transport = SimpleNamespace(
        pause_reading=lambda: None, resume_reading=lambda: None, set_write_buffer_limits=lambda **_: None
    )

    def __init__(self) -> None:
        self.pongs = 0
        self.is_up = True

    def send_pong(self, _payload: bytes) -> None:
        self.pongs += 1

    def send_close(self) -> None: ...

    def disconnect(self) -> None:
        self.is_up = False


def _frames(data: bytes) -> Iterator[tuple[int, bool, bytes]]:
    for byte in data:
        opcode, fin, count = _STEPS[byte % len(_STEPS)]
        yield from [(opcode, fin, b"x" * (byte // len(_STEPS)))] * count


def expected(data: bytes) -> tuple[list[bytes], bool]:
    """The messages that the frames are by the protocol, and whether every frame is allowed by it."""
    messages: list[bytes] = []
    parts: list[bytes] | None = None
    for opcode, fin, payload in _frames(data):
        if opcode in (_PING, _PONG):
            continue
        if (opcode == _CONTINUATION) == (parts is None):
            return messages, False
        parts = [*(parts or ()), payload]
        if fin:
            messages.append(b"".join(parts))
            parts = None
    return messages, True


def natively(data: bytes) -> tuple[list[bytes], bool]:
    """The messages that the native socket takes of these frames, and whether it is still up."""
    taken: list[bytes] = []
    socket = Socket(taken.append, lambda _socket: None, lambda: None)
    listener, transport = FrameListener(socket), _Transport()
    listener.on_ws_connected(transport)  # type: ignore[arg-type]
    for opcode, fin, payload in _frames(data):
        arrived: Any = SimpleNamespace(
            msg_type=NativeType(opcode),
            fin=fin,
            rsv1=False,
            last_in_buffer=False,
            get_payload_as_bytes=lambda payload=payload: payload,
        )
        listener.on_ws_frame(transport, arrived)  # type: ignore[arg-type]
    socket.ended("the end of the test")
    return taken, transport.is_up


def in_library(data: bytes) -> tuple[list[bytes], bool]:
    """The same of the exchange library's socket."""
    loop = asyncio.new_event_loop()
    try:
        queue = WebSocketDataQueue(SimpleNamespace(_reading_paused=True), 2**30, loop=loop)  # type: ignore[arg-type]
        reader = BoundedReader(queue, MAX_MESSAGE_BYTES, compress=False, decode_text=True)
        failed = any(reader.feed_data(frame(payload, opcode, fin=fin))[0] for opcode, fin, payload in _frames(data))
    finally:
        loop.close()
    return [m.data.encode() for m, _ in queue._buffer if m.type is WSMsgType.TEXT], not failed


def judge_frames(data: bytes) -> None:
    """Both sockets take the protocol's messages and no other, or hang up on what nobody has reason to send."""
    messages, is_allowed = expected(data)
    is_flood = any(byte % len(_STEPS) >= 6 for byte in data)
    for taken, is_up in (natively(data), in_library(data)):
        assert taken[: len(messages)] == messages[: len(taken)], "another message"
        assert not is_up or not is_allowed or taken == messages, "a message was left out"
        assert is_up or is_flood or not is_allowed, "hung up on what the protocol allows"


_READ = ("", "deflate", "gzip", "identity", "utf-8", "x-gzip")


def judge_reply(data: bytes) -> None:
    """A body that is no longer than the limit, and what the encoding makes of the bytes; or a refusal."""
    if len(data) < 2:
        return
    encodings = (*_READ, "br", "gzip, gzip")
    encoding, step, body = encodings[data[0] % len(encodings)], data[1] + 1, data[2:]
    try:
        reply = Reply(encoding, REPLY_LIMIT)
        for at in range(0, len(body), step):
            reply.feed(body[at : at + step])
        whole = reply.whole()
    except (ValueError, zlib.error):
        return
    assert encoding in _READ, "read, and nobody asked for it"
    assert len(whole) <= REPLY_LIMIT
    assert len(body) <= REPLY_LIMIT
    assert whole == _unpacked_at_once(encoding, body)


def _unpacked_at_once(encoding: str, body: bytes) -> bytes:
    if encoding in ("", "identity", "utf-8") or not body:
        return body
    for wbits in (31,) if "gzip" in encoding else (15, -15):
        parts, rest = [], body
        with contextlib.suppress(zlib.error):
            while rest:
                unpacker = zlib.decompressobj(wbits)
                parts.append(unpacker.decompress(rest))
                rest = unpacker.unused_data if wbits == 31 else b""
            return b"".join(parts)
    raise AssertionError("nobody else can read it")


def judge_headers(data: bytes) -> None:
    """A wait that ends, and a redirect to the same server by another reader of URLs; or none."""
    said, _, location = data.decode("latin-1").partition("\n")
    wait_s = retry.retry_after_s(said, _NOW)
    assert not math.isnan(wait_s)
    assert 0.0 <= retry.cut(wait_s) <= 3600.0
    assert shown(location).isprintable()
    asked = "https://api.venue.example/v1/markets"
    try:
        target = redirected(asked, location)
    except RedirectRefused:
        return
    assert URL(target).origin() == URL(asked).origin()
    assert "?" not in shown(target)
