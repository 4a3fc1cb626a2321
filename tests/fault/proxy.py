"""A TCP proxy that misbehaves on request, between any client and any server of a test.

It runs in the loop of the test; every connection is two pumps, and what is set on the proxy holds for each chunk from
then on, in both directions or in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Flag, auto

_CHUNK_BYTES = 2**16


class Way(Flag):
    """To the server, or back to the client."""

    TO_SERVER = auto()
    TO_CLIENT = auto()
    BOTH = TO_SERVER | TO_CLIENT


@dataclass(eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    pumps: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Listens on a port that stays; where it leads to may change (`target`)."""

    def __init__(self, host: str, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay_s = 0.0  # before each chunk is passed on
        self.slice_bytes: int | None = None  # the most that is passed on at once, with a turn of the loop between
        self.swallowed_bytes = 0
        self.accepted = 0
        self._host = host
        self._blackhole = Way(0)
        self._cut_at: tuple[bytes, Way] | None = None
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.cut_happened = asyncio.Event()

    def blackhole(self, way: Way = Way.BOTH) -> None:
        """From now on bytes vanish, and the connections stay open: no FIN, no reset. `clear` ends it.

        Connections from before stay lost: what was swallowed does not come back.
        """
        self._blackhole = way

    def clear(self) -> None:
        """No more blackhole: new connections work."""
        self._blackhole = Way(0)

    def drop_reply_to(self, request: bytes) -> None:
        """Once: when bytes with this in them have gone to the server, its answer is swallowed and both sides reset.

        The server has done it, the client never learns.
        """
        self._cut_at = request, Way.TO_CLIENT
        self.cut_happened.clear()

    def reset(self) -> None:
        """Cut every connection with a RST."""
        for link in list(self._links):
            self._reset(link)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection more."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(self._host, self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        link.pumps = [
            asyncio.create_task(self._pump(link, reader, server_writer, Way.TO_SERVER)),
            asyncio.create_task(self._pump(link, server_reader, writer, Way.TO_CLIENT)),
        ]
        try:
            await asyncio.wait(link.pumps)
        finally:
            self._links.discard(link)
            for pump in link.pumps:
                pump.cancel()
            for side in (writer, server_writer):
                side.close()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        dropping = False
        with contextlib.suppress(ConnectionError):
            while True:
                data = await reader.read(self.slice_bytes or _CHUNK_BYTES)
                if not data:
                    break
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if way in self._blackhole or dropping:
                    self.swallowed_bytes += len(data)
                    dropping = True
                    continue
                if self._cut_at is not None and way is Way.TO_SERVER and self._cut_at[0] in data:
                    await self._swallow_reply(link, data)
                    break
                writer.write(data)
                await writer.drain()
                if self.slice_bytes:
                    await asyncio.sleep(0)
        if not dropping:
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()

    async def _swallow_reply(self, link: _Link, data: bytes) -> None:
        self._cut_at = None
        link.pumps[1].cancel()
        await asyncio.wait({link.pumps[1]})
        link.server.write(data)
        await link.server.drain()
        await asyncio.sleep(0.2)  # the server does it; its answer stays in a buffer nobody reads
        self._reset(link)
        self.cut_happened.set()

    def _reset(self, link: _Link) -> None:
        for side in (link.client, link.server):
            bare = side.get_extra_info("socket")
            if bare is not None:
                with contextlib.suppress(OSError):
                    bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.transport.abort()

    async def close(self) -> None:
        for link in list(self._links):
            for pump in link.pumps:
                pump.cancel()
            self._reset(link)
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)


@asynccontextmanager
async def proxying(target: int, host: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    """A proxy before a port of this machine."""
    proxy = Proxy(host, target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
