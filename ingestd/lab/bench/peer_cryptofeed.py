"""Measures cryptofeed, in a separate virtual environment without ingestd.

`python peer_cryptofeed.py BACKEND FRAMES`, the backend's options on standard input: feeds the frames of a file (one per
line) to cryptofeed's message handler for Binance, with one of its backends as the callback, and prints a JSON line with
the time until the backend's writer had emptied its queue.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from cryptofeed.backends.kafka import TradeKafka
from cryptofeed.backends.postgres import TradePostgres
from cryptofeed.backends.redis import TradeRedis
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance
from cryptofeed.symbols import Symbols

_BACKENDS = {"postgres": TradePostgres, "redis": TradeRedis, "kafka": TradeKafka}
_FRAMES_A_READ = 32  # per turn of the event loop, as when reading a socket


async def _measure(name: str, frames: list[str], options: dict[str, Any]) -> dict[str, Any]:
    symbols = options.pop("symbols")
    Symbols.set("BINANCE", dict(symbols), {"tick_size": {}, "instrument_type": {}})
    backend = _BACKENDS[name](**options)
    feed = Binance(symbols=list(symbols), channels=[TRADES], callbacks={TRADES: backend})
    backend.start(asyncio.get_running_loop())
    writer = backend.worker
    started_s, busy_s = time.monotonic(), time.process_time()
    for number, frame in enumerate(frames):
        await feed.message_handler(frame, None, time.time())
        if number % _FRAMES_A_READ == 0:
            await asyncio.sleep(0)
            if writer.done():
                writer.result()
    worked_off = asyncio.ensure_future(backend.queue.join())
    await asyncio.wait({worked_off, writer}, return_when=asyncio.FIRST_COMPLETED)
    if writer.done():
        writer.result()
        raise RuntimeError("the backend's writer ended")
    took_s = time.monotonic() - started_s
    return {"frames": len(frames), "seconds": took_s, "processor_s": time.process_time() - busy_s}


def main(arguments: list[str]) -> None:
    name, file = arguments
    frames = Path(file).read_text(encoding="ascii").splitlines()
    print(json.dumps(asyncio.run(_measure(name, frames, json.load(sys.stdin)))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
