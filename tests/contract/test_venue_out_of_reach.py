"""A venue that is nowhere: what the log says of it, how often, and when it is there."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from ingestd.feeds.ccxt import market_loader
from ingestd.feeds.ccxt.market_loader import MarketLoader
from ingestd.feeds.ccxt.tap import close_exchange, make_exchange
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.stopping import Stop
from ingestd.lab.sim.child import free_port
from ingestd.status import FeedStatus


async def test_a_venue_that_is_nowhere_is_told_of_once_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = 0.0
    monkeypatch.setattr(market_loader, "RETRY_CAP_S", 0.0)
    monkeypatch.setattr("ingestd.log_limit.monotonic_s", lambda: clock_s)
    nowhere = f"http://127.0.0.1:{free_port()}"
    exchange = make_exchange("kraken", Tap(), url_map={"https://api.kraken.com": nowhere})
    exchange.enableRateLimit = False
    status, stop = FeedStatus("kraken"), Stop()
    try:
        with capture_logs() as lines:
            loading = asyncio.create_task(MarketLoader(exchange, status, None, stop).load())
            async with asyncio.timeout(60):
                while not lines:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)  # it is tried again meanwhile
                clock_s = 60.0
                while len(lines) < 2:
                    await asyncio.sleep(0.01)
            stop.set()
            await loading
    finally:
        await close_exchange(exchange)
    first, second = lines
    assert first["event"] == second["event"] == "markets_not_loaded"
    assert first["attempts"] == 1
    assert second["attempts"] > 2
    for text in (lines[0]["error"], status.problem or ""):
        assert f"kraken: {nowhere}/0/public/" in text
        assert "the connection is refused" in text
        assert "url_map" in text
