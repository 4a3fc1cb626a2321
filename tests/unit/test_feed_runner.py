"""What the daemon does with a feed of which nothing exists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingestd import feed_runner
from ingestd.config.loading import parse
from ingestd.config.models import Config, FeedConfig
from ingestd.errors import ConfigError, Problem
from ingestd.feed_runner import FeedRunner
from ingestd.feeds.base import Feed, Intake
from ingestd.lifecycle import Shard, Tasks
from ingestd.ops.health import readiness
from ingestd.ops.metrics import Metrics
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


class NoIntake:
    """Nothing is handed over."""

    is_blocked = False

    def put(self, record: object) -> None: ...

    async def writable(self) -> None: ...


def configured(state_dir: Path, *feeds: dict[str, object]) -> Config:
    document = {
        "instance": {"name": "a", "state_dir": str(state_dir)},
        "database": {"dsn": "postgresql://nobody@127.0.0.1:1/none"},
        "feeds": list(feeds),
    }
    return parse(document, {})


async def test_a_feed_of_which_nothing_is_listed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the names of the last reload."""
    made: list[Listed] = []
    binance: dict[str, object] = {"exchange": "binance", "symbols": ["BTC/USDT"]}
    before = configured(tmp_path, {"exchange": "kraken", "symbols": ["BTC/USD"]}, binance)
    after = configured(tmp_path, {"exchange": "kraken", "symbols": ["ETH/USD"]}, binance)
    tasks = Tasks()
    monkeypatch.setattr(feed_runner, "RETRY_MISCONFIGURED_S", 0.01)
    metrics = Metrics(["kraken", "binance"])
    runner = FeedRunner(before.feeds, lambda config: Listed(config, made), Shard(), tasks, metrics)
    runner.reload(after.feeds)
    runner.start(NoIntake())
    try:
        async with asyncio.timeout(60):
            while len(made) < 3:
                await asyncio.sleep(0.005)
            await made[-1].runs.wait()
        assert runner.all()[0] is made[-1]
        assert made[-1].symbols == ["ETH/USD"]
    finally:
        await tasks.cancel(tasks.names("feed-"))


async def test_feeds_of_which_nothing_is_listed_end_the_daemon(tmp_path: Path) -> None:
    """With every mistake at its place in the file."""
    tasks = Tasks()
    config = configured(tmp_path, {"exchange": "kraken", "symbols": ["BTC/USD"]})
    runner = FeedRunner(config.feeds, lambda feed: Listed(feed, []), Shard(), tasks, Metrics(["kraken"]))
    runner.start(NoIntake())
    async with asyncio.timeout(60):
        await tasks.stop_asked.wait()
    assert isinstance(tasks.fatal, ConfigError)
    assert [problem.path for problem in tasks.fatal.problems] == ["feeds[0].symbols[0]"]


async def test_a_rejected_stream_that_is_no_longer_followed_is_told_of_no_more(tmp_path: Path) -> None:
    """The one thing that an operator can do about it is to take the symbol out."""
    feed: dict[str, object] = {"exchange": "binance", "symbols": ["BTC/USDT"], "channels": ["trades"]}

    def followed(config: FeedConfig) -> Feed:
        return Listed(config, [])

    service = Service(configured(tmp_path, feed), make_feed=followed)
    for _ in range(3):
        service.intake.rejections.reject(("binance", "trades", "BTC/USDT"), "price")
    service.compose_streams(stopped=False)
    assert any("BTC/USDT" in reason for reason in readiness(service.snapshot()).reasons)
    service.reload(configured(tmp_path, {**feed, "symbols": ["ETH/USDT"]}))
    service.compose_streams(stopped=False)
    assert not any("BTC/USDT" in reason for reason in readiness(service.snapshot()).reasons)
