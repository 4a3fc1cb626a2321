"""What the daemon does with a feed of which nothing exists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingestd.config.loading import parse
from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError, Problem
from ingestd.feeds.base import Feed, Intake
from ingestd.ops.health import readiness
from ingestd.service import Service
from ingestd.status import FeedStatus, MarketInfo


class Listed:
    """A feed whose market is in the venue's list from the second time on."""

    def __init__(self, config: FeedConfig, made: list[Listed]) -> None:
        self.config = config
        self.symbols: Sequence[str] = config.symbols
        self.runs = asyncio.Event()
        self._is_first = config.exchange == "kraken" and not any(feed.config.exchange == "kraken" for feed in made)
        made.append(self)

    async def run(self, intake: Intake) -> None:
        if self._is_first:
            raise ConfigError([Problem("symbols[0]", "the venue has no such market", "BTC/USD")])
        self.runs.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass

    def status(self) -> FeedStatus:
        return FeedStatus(self.config.label, wanted=self.symbols)

    def markets(self) -> Sequence[MarketInfo]:
        return []

    def set_symbols(self, symbols: Sequence[str]) -> None:
        self.symbols = symbols


async def test_a_feed_of_which_nothing_is_listed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the names of the last reload."""
    monkeypatch.setattr("ingestd.service._MISCONFIGURED_S", 0.01)
    made: list[Listed] = []
    document = {
        "instance": {"name": "a", "state_dir": str(tmp_path)},
        "database": {"dsn": "postgresql://nobody@127.0.0.1:1/none"},
        "feeds": [{"exchange": "kraken", "symbols": ["BTC/USD"]}, {"exchange": "binance", "symbols": ["BTC/USDT"]}],
    }
    service = Service(parse(document, {}), make_feed=lambda config: Listed(config, made))
    name = next(iter(service.feeds))
    service.feeds[name].set_symbols(["ETH/USD"])
    running = asyncio.create_task(service._run_feed(name, service.feeds[name]))
    try:
        async with asyncio.timeout(60):
            while len(made) < 3:
                await asyncio.sleep(0.005)
            await made[-1].runs.wait()
        assert service.feeds[name] is made[-1]
        assert made[-1].symbols == ["ETH/USD"]
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_rejected_stream_that_is_no_longer_followed_is_told_of_no_more(tmp_path: Path) -> None:
    """The one thing that an operator can do about it is to take the symbol out."""
    document = {
        "instance": {"name": "a", "state_dir": str(tmp_path)},
        "database": {"dsn": "postgresql://nobody@127.0.0.1:1/none"},
        "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"], "channels": ["trades"]}],
    }

    def followed(config: FeedConfig) -> Feed:
        return Listed(config, [])

    service = Service(parse(document, {}), make_feed=followed)
    for _ in range(3):
        service.intake.rejections.reject(("binance", "trades", "BTC/USDT"), "price")
    service._compose_streams(stopped=False)
    assert any("BTC/USDT" in reason for reason in readiness(service.snapshot()).reasons)
    next(iter(service.feeds.values())).set_symbols(["ETH/USDT"])
    service._compose_streams(stopped=False)
    assert not any("BTC/USDT" in reason for reason in readiness(service.snapshot()).reasons)
