"""Servers that begin PostgreSQL's conversation and then do what a test wants (its manual, chapter 54)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["serves", "standby", "read-only", "silent", "starting", "full", "wrong password"]
_TLS_REQUEST = 80877103
_REFUSALS = {
    "starting": ("57P03", "the database system is starting up"),
    "full": ("53300", "sorry, too many clients already"),
    "wrong password": ("28P01", "password authentication failed"),
}


@dataclass
class Double:
    """A server of this kind; `names` are those that TLS asked for, `sessions` what each session began with."""

    kind: Kind
    tls: ssl.SSLContext | None = None
    port: int = 0
    asked: int = 0
    names: list[str | None] = field(default_factory=list)
    sessions: list[dict[str, str]] = field(default_factory=list)

    _talks: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = field(default_factory=dict)

    async def end(self) -> None:
        """Hang up, and wait until every conversation has noticed."""
        for writer in self._talks.values():
            writer.transport.abort()
        await asyncio.wait([task for task in self._talks if task is not None]) if self._talks else None

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self._talks[asyncio.current_task()] = writer
        # AttributeError: what start_tls gives when the client has left meanwhile.
        with contextlib.suppress(OSError, EOFError, AttributeError):
            if self.kind == "silent":
                await reader.read()
                return
            length, code = struct.unpack("!ii", await reader.readexactly(8))
            if code == _TLS_REQUEST:
                writer.write(b"N" if self.tls is None else b"S")
                if self.tls is not None:
                    await writer.start_tls(self.tls)
                length, code = struct.unpack("!ii", await reader.readexactly(8))
            words = (await reader.readexactly(length - 8)).decode().split("\0")
            self.sessions.append(dict(zip(words[::2], words[1::2], strict=False)))
            writer.write(self._answer())
            await reader.read(1)  # the client's goodbye
        writer.transport.abort()

    def _answer(self) -> bytes:
        if self.kind in _REFUSALS:
            sqlstate, text = _REFUSALS[self.kind]
            return _message(b"E", f"SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0\0".encode())
        settings = {
            "server_version": "17.0",
            "client_encoding": "UTF8",
            "in_hot_standby": "on" if self.kind == "standby" else "off",
            "default_transaction_read_only": "on" if self.kind == "read-only" else "off",
        }
        told = [_message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items()]
        return b"".join([_message(b"R", struct.pack("!i", 0)), *told, _message(b"K", bytes(8)), _message(b"Z", b"I")])


@asynccontextmanager
async def double(
    kind: Kind, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Double]:
    """One that listens until the block ends."""
    one = Double(kind, tls)
    if tls is not None:
        tls.sni_callback = lambda _object, name, _context: one.names.append(name)
    server = await asyncio.start_server(one.talk, host, port)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await one.end()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
