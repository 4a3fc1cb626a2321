"""A volley on a real socket: everything in it arrives, in order, and the ledger says so."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import aiohttp
import pytest

from ingestd.lab.sim.volley import Pace, Steady, volley_venue

COUNT = 3_000


@pytest.mark.parametrize("pace", [None, Steady(30_000.0)], ids=["at once", "paced"])
async def test_everything_arrives_in_order(pace: Pace | None) -> None:
    async with volley_venue(symbols=3, pace=pace, count=COUNT, quiet_s=None) as venue:
        url = venue.url_map["wss://stream.binance.com:9443"] + "/ws"
        async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
            names = ["btcusdt@trade", "ethusdt@trade", "btcusdt@bookTicker", "nosuch@trade"]
            await socket.send_str(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
            await socket.receive()
            venue.source.switch.start()
            async with asyncio.timeout(60):
                frames = [json.loads((await socket.receive()).data) for _ in range(COUNT)]
                while not venue.source.finished:
                    await asyncio.sleep(0.01)
        summary = venue.summary()

    trades = [(frame["s"], frame["t"]) for frame in frames if frame.get("e") == "trade"]
    by_symbol = Counter(symbol for symbol, _ in trades)
    assert by_symbol == {"BTCUSDT": COUNT // 3, "ETHUSDT": COUNT // 3}
    for symbol in by_symbol:
        ids = [number for name, number in trades if name == symbol]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert summary["sent"] == {"trades": 2 * COUNT // 3, "ticks": COUNT // 3}
    assert summary["distinct_trades"] == 2 * COUNT // 3
    assert summary["finished_at"] > summary["started_at"]  # type: ignore[operator]


def test_as_fast_as_possible_without_an_end_cannot_be_made_up() -> None:
    with pytest.raises(ValueError, match="needs a count"):
        volley_venue(pace=None, count=None)
