"""An address of a mirror may hold a password: no error of a feed and no gap passes it on."""

from __future__ import annotations

import socket

import pytest

from ingestd.config.models import FeedConfig
from ingestd.records import FeedGap
from tests.support.small_venue import RunningFeed
from tests.unit.feeds.doubles import Wire

SECRET = "s3cret-of-mine"


@pytest.mark.parametrize("decoder", ["native", "ccxt"])
async def test_markets_that_cannot_be_loaded(decoder: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    mirror = f"http://proxy:{SECRET}@127.0.0.1:{port}/x?api_key={SECRET}"
    hosts = ("api.binance.com", "data-api.binance.vision", "fapi.binance.com", "dapi.binance.com")
    config = FeedConfig(
        exchange="binance",
        channels=["trades"],
        symbols=["BTC/USDT"],
        url_map={f"https://{host}": mirror for host in hosts},
    )
    async with RunningFeed(config, decoder) as running:
        await running.until(lambda: "loaded" in str(running.feed.status().problem))
        problem = str(running.feed.status().problem)
    assert f"127.0.0.1:{port}" in problem
    assert SECRET not in problem


async def test_the_reason_of_a_gap() -> None:
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws")
    stream = wire.ledger.streams["trades"]["BTC/USDT"]
    wire.recorder.interrupted([stream], "disconnect", f"cannot connect to ws://proxy:{SECRET}@h:1/ws?token={SECRET}")
    (gap,) = wire.intake.of(FeedGap)
    assert gap.detail == "cannot connect to ws://proxy:***@h:1/ws?token=***"
    await wire.close()
