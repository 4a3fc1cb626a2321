"""A venue that may send anything: bytes as they are, from a thread of its own, as fast as they are taken.

It speaks enough of Binance USDⓈ-M for a feed to follow one market; a test replaces what it wants to be wrong.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Feed
from tests.support.feeds import make_feed
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0
_MARKET = {
    "symbol": "BTCUSDT",
    "pair": "BTCUSDT",
    "contractType": "PERPETUAL",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "marginAsset": "USDT",
    "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "1", "maxPrice": "9"}],
}
MARKETS = json.dumps({"symbols": [_MARKET]}).encode()

Speak = Callable[[socket.socket], None]
"""What is said on one connection after its request was read; it is closed afterwards."""


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole HTTP reply, after which the connection is closed."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """One frame of a server: https://www.rfc-editor.org/rfc/rfc6455#section-5.2"""
    head = bytes([opcode | 0x80 * fin])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 2**16:
        return head + b"\x7e" + len(payload).to_bytes(2, "big") + payload
    return head + b"\x7f" + len(payload).to_bytes(8, "big") + payload


def trade(trade_id: int) -> bytes:
    """A frame with one trade."""
    return frame(
        b'{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":%d,"p":"7.6110","q":"2.000","T":1672515782136,"m":false,'
        b'"X":"MARKET"}' % trade_id
    )


class RawVenue:
    """`replies` are said to the REST requests, one after the other, then the list of markets for ever; `handshakes` to
    the dials, then they are agreed to. `streams` speak on one socket each, after it was asked for something; then each
    brings one trade, and stays open."""

    def __init__(self) -> None:
        self.replies: list[bytes | Speak] = []
        self.handshakes: list[bytes | Speak] = []
        self.streams: list[Speak] = []
        self.requests: list[str] = []  # the first lines of all
        self.header_bytes: list[int] = []  # how long each request was
        self.subscribed = 0
        self._stopped = threading.Event()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def dials(self) -> int:
        return sum("/ws" in request for request in self.requests)

    def close(self) -> None:
        self._stopped.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(WITHIN_S)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._speak, args=(connection,), daemon=True).start()

    def _speak(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = _received(connection, b"\r\n\r\n").decode()
            self.requests.append(request.partition("\r\n")[0])
            self.header_bytes.append(len(request))
            is_dial = "upgrade: websocket" in request.lower()
            scripted = self.handshakes if is_dial else self.replies
            if scripted:
                self._say(connection, scripted.pop(0))
            elif is_dial:
                connection.sendall(_agreed(request))
                connection.recv(2**16)  # what it is asked for
                self.subscribed += 1
                (self.streams.pop(0) if self.streams else self._one_trade)(connection)
            else:
                connection.sendall(reply(MARKETS, "Content-Type: application/json"))

    def _say(self, connection: socket.socket, what: bytes | Speak) -> None:
        if isinstance(what, bytes):
            connection.sendall(what)
        else:
            what(connection)

    def _one_trade(self, connection: socket.socket) -> None:
        connection.sendall(trade(self.subscribed))
        while connection.recv(2**16):
            pass

    def endlessly(self, data: bytes, *, after: bytes = b"", reads: bool = False) -> Speak:
        """Send that again and again until the connection is gone, for as long as the test lasts."""

        def speak(connection: socket.socket) -> None:
            connection.sendall(after)
            if reads:
                threading.Thread(target=_drain, args=(connection,), daemon=True).start()
            while not self._stopped.is_set():
                connection.sendall(data)

        return speak


class Running:
    """A feed of that venue in a task of its own. `held_up_s`: the longest that one turn of the loop has computed."""

    def __init__(self, venue: RawVenue, decoder: str, **changes: Any) -> None:
        settings: dict[str, Any] = {
            "symbols": ["BTC/USDT:USDT"],
            "channels": ["trades"],
            "options": {"fetchMarkets": {"types": ["linear"]}, "watchTrades": {"name": "trade"}},
            "url_map": {
                "https://fapi.binance.com": f"http://{venue.address}",
                "wss://fstream.binance.com": f"ws://{venue.address}",
            },
        }
        self.intake = ListIntake()
        config = FeedConfig(exchange="binanceusdm", **{**settings, **changes})
        self.feed: Feed = make_feed(config, decoder)
        self.held_up_s = 0.0
        self._task = asyncio.create_task(self.feed.run(self.intake))
        self._watch = asyncio.create_task(self._watch_loop())

    async def _watch_loop(self) -> None:
        # Processor time: on a machine with other work the clock says nothing about ours.
        # Both sleeps are measured: most turns of the feed fall into the longer one.
        while True:
            for pause_s in (0, 0.001):
                before_s = time.thread_time()
                await asyncio.sleep(pause_s)
                self.held_up_s = max(self.held_up_s, time.thread_time() - before_s)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Yield to the loop until the condition holds; fails with the feed's own error if it ends first."""
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        await self.feed.close()
        await self._task
        self._watch.cancel()
        await asyncio.wait({self._watch})


def _received(connection: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data:
        more = connection.recv(2**16)
        if not more:
            raise ConnectionError("it hung up")
        data += more
    return data


def _agreed(request: str) -> bytes:
    """The answer to a handshake: https://www.rfc-editor.org/rfc/rfc6455#section-4.2.2"""
    headers: Sequence[str] = request.split("\r\n")
    key = next(line.partition(":")[2].strip() for line in headers if line.lower().startswith("sec-websocket-key:"))
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*lines, f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}", "", ""]).encode()


def _drain(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(2**16):
            pass
