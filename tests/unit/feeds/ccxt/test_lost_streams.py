"""A stream that does not come, however often it is asked for: what the others on its socket pay for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ingestd.feeds.ccxt.subscriptions import LostStreams
from tests.unit.feeds.doubles import Wire


async def test_the_socket_is_dialled_again_ever_more_seldom() -> None:
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws")
    stream = wire.ledger.streams["trades"]["BTC/USDT"]
    stream.url = "wss://stream.binance.com:9443/ws"
    dropped: list[Any] = []
    client = SimpleNamespace(url=stream.url, on_error=dropped.append)
    lost = LostStreams(SimpleNamespace(clients={stream.url: client}), (), lambda *_: None)  # type: ignore[arg-type]  # it is not asked
    after = []
    for attempt in range(1, 17):
        lost.ask_for(stream, attempt)
        after.append(len(dropped))
    assert after == [0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4]
    await wire.close()
