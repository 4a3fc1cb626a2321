"""The HTTP client for ccxt, with limits on replies, redirects and WebSocket messages of an exchange.

The only file that uses private parts of aiohttp's client.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp._websocket.reader import WebSocketReader
from yarl import URL

from ingestd.clock import monotonic_s
from ingestd.errors import RedirectRefused
from ingestd.feeds.ccxt.unpacking import FrameTooLarge, Reply
from ingestd.feeds.urls import REDIRECTS, redirected, shown
from ingestd.feeds.wire_limits import (
    CONTROL_FRAME_COST,
    FRAGMENT_COST,
    MAX_COOKIE_CHARS,
    MAX_MESSAGE_BYTES,
    MAX_REPLY_BYTES,
    MAX_UNSENT_BYTES,
    FrameBudget,
    holds_too_much,
    too_fragmented,
)
from ingestd.retry import cut, retry_after_s

_FIRST_ERROR = 400  # HTTP statuses from here on are errors
_CONTROL = frozenset({aiohttp.WSMsgType.CLOSE.value, aiohttp.WSMsgType.PING.value, aiohttp.WSMsgType.PONG.value})
_CONTINUATION = aiohttp.WSMsgType.CONTINUATION.value


class _FewCookies(aiohttp.CookieJar):
    """Cookie jar that clears itself when it exceeds `MAX_COOKIE_CHARS`. One bad reply could otherwise set so many
    cookies that every later request is refused."""

    def update_cookies_from_headers(self, headers: Sequence[str], response_url: URL) -> None:
        super().update_cookies_from_headers(headers, response_url)
        if sum(len(cookie.key) + len(cookie.value) for cookie in self) > MAX_COOKIE_CHARS:
            self.clear()


class ReplyRefused(aiohttp.ClientError):
    """A reply was not read, or a redirect was not followed. The message says which and why."""


def bounded_session(
    connector: aiohttp.TCPConnector, *, trust_env: bool, on_long_wait: Callable[[str, float], None]
) -> aiohttp.ClientSession:
    """Create a session that reads at most `MAX_REPLY_BYTES` of a reply and follows redirects only within one server.

    `on_long_wait` is called with the URL and the seconds if an exchange asks for a longer wait than we allow.
    """

    async def guarded(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await send(request)
        if response.status in REDIRECTS:
            _look_at_redirect(request.url, response)
        if response.status >= _FIRST_ERROR:
            asked_s = retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
            if cut(asked_s) < asked_s:
                on_long_wait(shown(str(request.url)), asked_s)
        return response

    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=_FewCookies(),
        trust_env=trust_env,
        auto_decompress=False,
        response_class=_Response,
        ws_response_class=_WebSocket,
        middlewares=(guarded,),
    )


def reads_nothing(connection: Any) -> bool:
    """Whether more than `MAX_UNSENT_BYTES` are buffered for sending on this socket: the exchange does not read."""
    transport = _transport_of(connection)
    return transport is not None and transport.get_write_buffer_size() > MAX_UNSENT_BYTES


def hang_up(connection: Any) -> None:
    """Close the socket at once without a close frame, which would queue behind the unread data."""
    if (transport := _transport_of(connection)) is not None:
        transport.abort()


def _transport_of(connection: Any) -> Any:
    """The transport of a socket of a `bounded_session`; None once the socket is closed."""
    return connection._conn.transport if connection._conn is not None else None


def _look_at_redirect(url: URL, response: aiohttp.ClientResponse) -> None:
    location = response.headers.get("Location") or response.headers.get("URI")
    if location is None:
        return
    try:
        # Parse as aiohttp does, so that the URL that is checked is the URL that is requested.
        target = URL(location)
        target = target if target.host is not None else url.join(target)
        redirected(str(url), str(target))
    except (RedirectRefused, ValueError) as error:
        response.close()
        raise ReplyRefused(str(error)) from error


class _Response(aiohttp.ClientResponse):
    """A response whose body is read only up to the limit."""

    async def read(self) -> bytes:
        if self._body is None:
            try:
                self._body = await self._read()
            except BaseException:
                self.close()  # do not read the rest of the body
                raise
        return self._body

    async def _read(self) -> bytes:
        what_to_do = "check which server answers there, and `url_map`"
        try:
            length = self.content_length or 0
            if length > MAX_REPLY_BYTES:
                raise FrameTooLarge(f"its Content-Length is {length} bytes, and the limit is {MAX_REPLY_BYTES}")
            reply = Reply(self.headers.get("Content-Encoding", ""), MAX_REPLY_BYTES)
            while data := await self.content.readany():
                reply.feed(data)
            body = reply.whole()
            if holds_too_much(body):
                raise FrameTooLarge("it holds more values than any that a venue has reason to send")
            return body
        except (ValueError, zlib.error) as error:
            raise ReplyRefused(f"the reply of {shown(str(self.url))} is refused: {error}; {what_to_do}") from error


class BoundedReader(WebSocketReader):
    """Refuses a message split into far more frames than its size needs, and a flood of control or partial frames."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._budget = FrameBudget()
        self._fragments = self._fragment_bytes = 0

    def _handle_frame(self, fin: bool, opcode: int, payload: bytes | bytearray, compressed: int) -> None:
        if not fin or opcode == _CONTINUATION or opcode in _CONTROL:
            self._count(fin, opcode, len(payload))
        super()._handle_frame(fin, opcode, payload, compressed)

    def _count(self, fin: bool, opcode: int, payload_bytes: int) -> None:
        if opcode not in _CONTROL:
            self._fragments += 1
            self._fragment_bytes += payload_bytes
            if too_fragmented(self._fragments, self._fragment_bytes):
                why = f"a message in {self._fragments} frames of {self._fragment_bytes} bytes in all"
                raise aiohttp.WebSocketError(aiohttp.WSCloseCode.POLICY_VIOLATION, why)
            if fin:
                self._fragments = self._fragment_bytes = 0
        if self._budget.is_overdrawn(CONTROL_FRAME_COST if opcode in _CONTROL else FRAGMENT_COST, monotonic_s()):
            raise aiohttp.WebSocketError(aiohttp.WSCloseCode.POLICY_VIOLATION, "a flood of frames that are no message")


class _WebSocket(aiohttp.ClientWebSocketResponse):
    """A WebSocket that reads frames with a `BoundedReader` instead of the parser that aiohttp assigns to it, and reads
    nothing once it closes."""

    @property
    def _parser(self) -> WebSocketReader | None:
        return self.__dict__.get("bounded_reader")

    @_parser.setter
    def _parser(self, made: WebSocketReader | None) -> None:
        bounded = None
        if made is not None:
            bounded = BoundedReader(self._reader, MAX_MESSAGE_BYTES, compress=bool(self._compress), decode_text=True)
        self.__dict__["bounded_reader"] = bounded

    async def close(self, **named: Any) -> bool:
        """Send the close frame. aiohttp would then read, without letting others have the event loop while messages are
        there, until the exchange's close frame comes; it does not if a code is known already."""
        self._close_code = self._close_code or aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        return await super().close(**named)
