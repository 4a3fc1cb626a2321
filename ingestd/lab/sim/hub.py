"""Keeps the open sockets and their subscriptions, and writes frames to them.

Frames are encoded here and written in bulk: aiohttp's `send_str` costs one system call per frame, which would be most
of a fast generator's cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp.abc import AbstractStreamWriter

from ingestd.clock import monotonic_s
from ingestd.lab.sim.ledger import Ledger
from ingestd.lab.sim.venues.base import Stream

_SMALL = tuple(bytes((0x81, length)) for length in range(126))
_DRAIN_POLL_S = 0.005


def text_frame(payload: bytes) -> bytes:
    """Encode an unmasked, final text frame (RFC 6455 §5.2)."""
    length = len(payload)
    if length < 126:
        return _SMALL[length] + payload
    if length < 1 << 16:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


class Connection:
    """One open socket. `streams` maps a sent stream's name to the stream and the name the client subscribed to."""

    def __init__(
        self, transport: asyncio.Transport, writer: AbstractStreamWriter, host: str, *, combined: bool
    ) -> None:
        self.transport = transport
        self.host = host
        self.combined = combined
        self.streams: dict[str, tuple[Stream, str]] = {}
        self.deaf: dict[str, int] = {}  # how many more subscriptions to a stream are ignored
        self.frozen = False
        self.frozen_until_reconnect = False
        self.log_mark = 0  # the ledger's position when this socket's buffer was last empty
        self.write_mark = 0  # the ledger's position at the last write
        self._writer = writer
        self._outbox: list[bytes] = []

    @property
    def is_open(self) -> bool:
        return not self.transport.is_closing()

    def carries(self, market_id: str) -> bool:
        return any(stream.market_id == market_id for stream, _ in self.streams.values())

    def put(self, payload: bytes) -> None:
        """Add a frame to the next `write`."""
        self._outbox.append(text_frame(payload))

    def write(self) -> None:
        if self._outbox:
            data = b"".join(self._outbox)
            self._outbox.clear()
            if self.is_open:
                self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the socket accepts more, or is closed."""
        try:
            await self._writer.drain()
        except ConnectionError:
            pass  # closed: the handler that reads this socket removes it

    async def sent_all(self, timeout_s: float) -> bool:
        """Wait until the transport's buffer is empty. False on timeout; a closed socket has nothing left to send."""
        deadline = monotonic_s() + timeout_s
        while self.is_open and self.transport.get_write_buffer_size():
            if monotonic_s() > deadline:
                return False
            await asyncio.sleep(_DRAIN_POLL_S)
        return True


class Hub:
    """All connections. A frame is published once and written to every subscriber."""

    def __init__(self, ledger: Ledger, wrap: Callable[[str, str], str]) -> None:
        self.ledger = ledger
        self.connections: dict[Connection, None] = {}
        self._wrap = wrap
        self._subscribers: dict[str, dict[Connection, None]] = {}
        self._dirty: dict[Connection, None] = {}
        self.anyone = asyncio.Event()  # set while there are subscribers

    @property
    def subscriptions(self) -> int:
        """The number of subscribed (socket, stream) pairs."""
        return sum(map(len, self._subscribers.values()))

    @property
    def streams(self) -> list[str]:
        """The streams with at least one subscriber."""
        return [name for name, subscribers in self._subscribers.items() if subscribers]

    def add(self, connection: Connection) -> None:
        connection.log_mark = connection.write_mark = self.ledger.position
        self.connections[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a socket that is closed or will be; its unsent frames are marked as doubtful."""
        self.connections.pop(connection, None)
        # a transport closed by the peer has discarded its buffer: only an open one shows what is unsent
        all_sent = connection.is_open and not connection.transport.get_write_buffer_size()
        if not all_sent:
            self.ledger.doubt(connection.log_mark, connection.write_mark, frozenset(connection.streams))
        for name in list(connection.streams):
            self.unsubscribe(connection, name)
        self._dirty.pop(connection, None)

    def subscribe(self, connection: Connection, stream: Stream, asked: str) -> None:
        """Send `stream` to this socket under the name that the client used."""
        connection.streams[stream.name] = (stream, asked)
        self._subscribers.setdefault(stream.name, {})[connection] = None
        self.anyone.set()

    def unsubscribe(self, connection: Connection, stream: str) -> None:
        connection.streams.pop(stream, None)
        self._subscribers.get(stream, {}).pop(connection, None)
        if not self.subscriptions:
            self.anyone.clear()

    def publish(self, stream: Stream, payload: bytes) -> int:
        """Add a frame for every subscriber and return their number; `flush` sends it."""
        copies = 0
        for connection in self._subscribers.get(stream.name, ()):
            if connection.frozen or connection.transport.is_closing():
                continue
            copies += 1
            self._dirty[connection] = None
            if connection.combined:
                connection.put(self._wrap(connection.streams[stream.name][1], payload.decode()).encode())
            else:
                connection.put(payload)
        return copies

    def put(self, connection: Connection, payload: bytes) -> None:
        """Add a frame for one socket: an acknowledgement, a snapshot, garbage."""
        connection.put(payload)
        self._dirty[connection] = None

    async def flush(self) -> None:
        """Write all added frames, then wait until every socket accepts more: a slow reader slows the simulator."""
        dirty, self._dirty = self._dirty, {}
        for connection in dirty:
            connection.write()
            connection.write_mark = self.ledger.position
        for connection in dirty:
            if not connection.frozen:
                await connection.drain()
            if connection.is_open and not connection.transport.get_write_buffer_size():
                connection.log_mark = connection.write_mark

    async def sent_all(self, timeout_s: float) -> bool:
        """Wait until every socket that is not frozen has sent all its frames. False on timeout."""
        deadline = monotonic_s() + timeout_s
        waited = [
            await connection.sent_all(max(0.0, deadline - monotonic_s()))
            for connection in list(self.connections)
            if not connection.frozen
        ]
        return all(waited)
