"""A venue with a ledger, in a process of its own: sends numbered events to whoever is connected, and keeps the answers.

A client is told of events from where the last one was cut off; the last trades are told again, as venues do. It answers
with the numbers of what it has journaled. Standard input takes one JSON object a line (`rate`, `paused`, `replay`,
`forget`, `report`), standard output gives the state ten times a second, and the whole ledger when it is asked for.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

from tests.fault import events

_EVERY_S = 0.005
_TELL_EVERY_S = 0.05
_LARGEST_BURST_S = 0.25


class Emitter:
    """What was sent and what was answered."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.paused = False
        self.replay = 1000  # of the last trades, to a client that connects
        self.base_us = time.time_ns() // 1000 // 1_000_000 * 1_000_000
        self.first = 1  # of this round
        self.next = 1
        self.journaled: set[int] = set()
        self.refused: set[int] = set()
        self.clients = 0
        self.connected_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes."""
        self.clients += 1
        answers = asyncio.create_task(self._answers(reader))
        try:
            writer.write(f"{self.base_us}\n".encode())
            # Not the flawed ones: rejections have no key by which a second one could be known.
            since = max(self.first, self.next - self.replay)
            again = [n for n in range(since, self.next) if events.is_trade(n) and not events.is_flawed(n)]
            writer.write("".join(map(events.line, again)).encode())
            last_s, owed = time.monotonic(), 0.0
            while not answers.done():
                await asyncio.sleep(_EVERY_S)
                now_s = time.monotonic()
                if not self.paused:
                    owed += self.rate * min(now_s - last_s, _LARGEST_BURST_S)
                    count, owed = int(owed), owed % 1
                    writer.write("".join(map(events.line, range(self.next, self.next + count))).encode())
                    self.next += count
                    self.connected_s += now_s - last_s
                last_s = now_s
                await writer.drain()
        except (ConnectionError, RuntimeError):  # uvloop has closed it
            pass
        finally:
            self.clients -= 1
            answers.cancel()
            writer.close()

    async def _answers(self, reader: asyncio.StreamReader) -> None:
        while text := await reader.readline():
            if not text.endswith(b"\n"):
                return
            answer = json.loads(text)
            # What a journal still holds of the rounds before is answered again; nobody asks for it any more.
            self.journaled.update(number for number in answer["journaled"] if number >= self.first)
            self.refused.update(number for number in answer["refused"] if number >= self.first)

    def state(self) -> dict[str, Any]:
        return {
            "sent": self.next - 1,
            "answered": len(self.journaled) + len(self.refused),
            "clients": self.clients,
            "connected_s": self.connected_s,
        }

    def order(self, wanted: dict[str, Any]) -> None:
        if wanted.get("report"):
            told = {"journaled": _ranges(self.journaled), "refused": sorted(self.refused)}
            _tell({"first": self.first, "end": self.next, "base_us": self.base_us, **told})
        if wanted.get("forget"):
            self.first = self.next
            self.journaled.clear()
            self.refused.clear()
        self.rate = wanted.get("rate", self.rate)
        self.paused = wanted.get("paused", self.paused)
        self.replay = wanted.get("replay", self.replay)


def _ranges(numbers: set[int]) -> list[list[int]]:
    """As [first, end) pairs: a million numbers are a few of them."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1][1] += 1
        else:
            found.append([number, number + 1])
    return found


def _tell(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def main(rate: float) -> None:
    """Serve so many events a second until standard input ends."""
    uvloop.run(_serve(rate))


async def _serve(rate: float) -> None:
    emitter = Emitter(rate)
    server = await asyncio.start_server(emitter.serve, "127.0.0.1", 0, limit=2**26)
    _tell({"port": server.sockets[0].getsockname()[1]})
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    line: asyncio.Task[bytes] | None = None
    while True:
        line = line or asyncio.create_task(orders.readline())
        done, _ = await asyncio.wait({line}, timeout=_TELL_EVERY_S)
        if done:
            if not (text := line.result()):
                return  # whoever started it is gone
            emitter.order(json.loads(text))
            line = None
        _tell(emitter.state())
