"""The one file that imports picows: the WebSocket of the native feeds."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from ingestd.clock import monotonic_s
from ingestd.config.secrets import redact
from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.urls import MAX_REDIRECTS, REDIRECTS, redirected
from ingestd.feeds.wire_limits import (
    CONTROL_FRAME_COST,
    FRAGMENT_COST,
    MAX_MESSAGE_BYTES,
    MAX_UNSENT_BYTES,
    FrameBudget,
    too_fragmented,
)
from ingestd.retry import retry_after_s

_RECEIVE_BUFFER_BYTES = 2**20  # limits one read, and so the data that still arrives after a pause
_TURN_S = 0.002  # one read may return 10,000 frames, which would block the event loop
_CHUNK_FRAMES = 32  # frames handled between two looks at the clock
_RATE_LIMIT_STATUS = (418, 429)
_CLOSED_WITHIN_S = 2.0


class Socket:
    """One WebSocket connection. `on_frame` is called for each frame, in the loop turn in which it was read.

    If one read returns more frames than can be handled in `_TURN_S`, the others are handled in the next loop turns, and
    reading pauses until then. `lost` is set when the connection is over; `reason` says why.
    """

    def __init__(
        self, on_frame: Callable[[bytes], None], after_read: Callable[[Socket], None], on_lost: Callable[[], None]
    ) -> None:
        self.lost = asyncio.Event()
        self.reason = ""
        self.is_paused = False
        self._on_frame = on_frame
        self._after_read = after_read
        self._on_lost = on_lost
        self._transport: WSTransport | None = None
        self._waiting: deque[bytes] = deque()  # frames that were read but not handled yet
        self._turn: asyncio.Handle | None = None  # the next call of `work_off`
        self._reads = True

    def send(self, text: bytes) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, text)

    def ping(self) -> None:
        if self._transport is not None:
            self._transport.send_ping()

    def pause(self) -> None:
        """Stop reading: data waits in the kernel's buffer and, once that is full, at the exchange."""
        if self._transport is not None and not self.is_paused and not self.lost.is_set():
            self.is_paused = True
            self._read_or_wait()

    def resume(self) -> None:
        if self._transport is not None and self.is_paused and not self.lost.is_set():
            self.is_paused = False
            self._read_or_wait()

    def abandon(self, reason: str) -> None:
        """Stop handling frames. `close` must still be called."""
        if not self.lost.is_set():
            self.reason = reason
            self._waiting.clear()
            self.lost.set()
            self._read_or_wait()
            self._on_lost()

    async def close(self) -> None:
        """Close the connection. Returns once it is closed, or after `_CLOSED_WITHIN_S`."""
        transport, self._transport = self._transport, None
        self.abandon("closed here")
        if transport is None:
            return
        transport.send_close()
        transport.disconnect(graceful=False)
        gone = asyncio.ensure_future(transport.wait_disconnected())
        await asyncio.wait({gone}, timeout=_CLOSED_WITHIN_S)
        gone.cancel()
        await asyncio.wait({gone})
        if not gone.cancelled():
            gone.exception()  # retrieved so that asyncio does not log it: `reason` is known already

    def ended(self, reason: str) -> None:
        """Handle the remaining frames after the exchange or the network ended the connection."""
        while self._waiting:
            self._on_frame(self._waiting.popleft())
        self.abandon(reason)

    def work_off(self) -> None:
        """Handle waiting frames for at most `_TURN_S`; the others in the next loop turn."""
        waiting, on_frame = self._waiting, self._on_frame
        until_s = monotonic_s() + _TURN_S
        while waiting:
            for _ in range(min(_CHUNK_FRAMES, len(waiting))):
                if not waiting:  # `on_frame` abandoned the socket
                    break
                on_frame(waiting.popleft())
            if monotonic_s() >= until_s:
                break
        self._after_read(self)
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        """Read if no frame waits, else handle frames in the next loop turn. Do neither while paused."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self.lost.is_set() or self._transport is None:
            return
        reads = not self.is_paused and not self._waiting
        if reads is not self._reads:
            self._reads, plain = reads, self._transport.underlying_transport
            (plain.resume_reading if reads else plain.pause_reading)()
        if self._waiting and not self.is_paused:
            self._turn = asyncio.get_running_loop().call_soon(self.work_off)


class FrameListener(WSListener):
    """Gives the frames that picows reads to a `Socket`, within the wire limits."""

    def __init__(self, owner: Socket) -> None:
        self._owner = owner
        self._arrived = owner._waiting.append
        self._parts: list[bytes] = []  # frames received so far of a fragmented message
        self._parts_bytes = 0
        self._budget = FrameBudget()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._owner._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)

    def pause_writing(self) -> None:
        # We send without waiting, so unread answers to the exchange's pings would accumulate without limit.
        self._owner.ended("the venue does not read what is sent to it")

    def resume_writing(self) -> None:
        """Do nothing: `pause_writing` has ended the connection."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        owner = self._owner
        if owner.lost.is_set():
            return
        kind = frame.msg_type
        if frame.rsv1:
            self._fail(transport, "a compressed message, which was not agreed on")
        elif frame.fin and not self._parts and (kind is WSMsgType.TEXT or kind is WSMsgType.BINARY):
            payload = frame.get_payload_as_bytes()
            if len(payload) > MAX_MESSAGE_BYTES:  # picows delivers the part that has arrived
                self._fail(transport, "a message is too large")
            else:
                self._arrived(payload)
        elif kind is WSMsgType.CLOSE:
            code, said = frame.get_close_code(), frame.get_close_reason()
            self._fail(transport, f"closed by the venue, code {getattr(code, 'value', code)}: {said}"[:300])
        else:
            self._take_other(transport, frame, kind)
        if frame.last_in_buffer and not owner.is_paused:
            owner.work_off()

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002  # the library's form
        self._owner.ended("the connection was lost")

    def _fail(self, transport: WSTransport, reason: str) -> None:
        self._owner.ended(reason)
        transport.send_close()
        transport.disconnect()

    def _take_other(self, transport: WSTransport, frame: WSFrame, kind: WSMsgType) -> None:
        """Handle a control frame or a fragment of a message."""
        is_control = kind is WSMsgType.PING or kind is WSMsgType.PONG
        if self._budget.is_overdrawn(CONTROL_FRAME_COST if is_control else FRAGMENT_COST, monotonic_s()):
            self._fail(transport, "a flood of frames that are no message")
        elif kind is WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif not is_control:
            self._join(transport, frame)

    def _join(self, transport: WSTransport, frame: WSFrame) -> None:
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += len(self._parts[-1])
        if self._parts_bytes > MAX_MESSAGE_BYTES:
            self._fail(transport, "a message in several frames is too large")
        elif too_fragmented(len(self._parts), self._parts_bytes):
            self._fail(transport, f"a message in {len(self._parts)} frames of {self._parts_bytes} bytes in all")
        elif frame.fin:
            whole, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
            self._arrived(whole)


@functools.cache
def tls_context() -> ssl.SSLContext:
    """TLS context with the system's certificate authorities. Cached, because loading them takes 20 ms per socket."""
    return ssl.create_default_context()


async def connect(
    url: str,
    on_frame: Callable[[bytes], None],
    after_read: Callable[[Socket], None],
    on_lost: Callable[[], None],
    *,
    within_s: float = 15.0,
) -> Socket:
    """Open a WebSocket and follow redirects to the same server.

    `after_read` is called after the frames of each loop turn and may call `pause`. `on_lost` is called when the
    connection is over. Raises FeedError, or RateLimited for HTTP status 418 or 429.
    """
    made = Socket(on_frame, after_read, on_lost)
    try:
        async with asyncio.timeout(within_s):
            transport = await _dial(made, url, within_s)
    except WSHandshakeError as error:
        raise _refused(error) from error
    except (OSError, WSError, TimeoutError, ValueError) as error:
        raise FeedError(redact(f"{type(error).__name__}: {error}")[:300]) from error
    plain = transport.underlying_transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    return made


async def _dial(made: Socket, url: str, within_s: float, redirects_left: int = MAX_REDIRECTS) -> WSTransport:
    try:
        transport, _ = await ws_connect(
            lambda: FrameListener(made),
            url,
            ssl_context=tls_context() if url.startswith("wss:") else None,
            websocket_handshake_timeout=within_s,
            enable_auto_pong=False,  # picows would send pongs without limit even if the exchange does not read
            max_frame_size=MAX_MESSAGE_BYTES,
            max_redirects=0,  # picows would follow redirects to any server
            use_aiofastnet=False,  # asyncio's transports measured faster on plain sockets
            logger_name="ingestd",
        )
    except WSHandshakeError as error:
        location = _header(error, "Location") if _status(error) in REDIRECTS else None
        if location is None or not redirects_left:
            raise
    else:
        return transport
    return await _dial(made, redirected(url, location), within_s, redirects_left - 1)


def _refused(error: WSHandshakeError) -> FeedError:
    """The error for a handshake that the exchange answered with an HTTP status."""
    text = redact(f"{type(error).__name__}: {error}")[:300]
    if _status(error) not in _RATE_LIMIT_STATUS:
        return FeedError(text)
    return RateLimited(text, retry_after_s(_header(error, "Retry-After"), datetime.now(UTC)))


def _status(error: WSHandshakeError) -> int:
    return int(getattr(error.response, "status", 0) or 0)


def _header(error: WSHandshakeError, name: str) -> str | None:
    headers: Any = getattr(error.response, "headers", {})
    value = headers.get(name)
    return value if isinstance(value, str) else None
