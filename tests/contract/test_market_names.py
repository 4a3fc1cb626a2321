"""A name means one market: what is stored under it, and what is put aside because it would mean two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.errors import ConfigError
from ingestd.records import Trade
from tests.contract.test_feeds_socket import Running, Venue
from tests.support.feeds import DECODERS

SHARED_NAME = "BTC/USDT:USDT"


@pytest.fixture(params=DECODERS)
async def venue(request: pytest.FixtureRequest) -> AsyncIterator[Venue]:
    """It lists two contracts that ccxt calls by one name: XBT is BTC to it."""
    made = Venue(request.param)
    made.markets = {"BTCUSDT": "BTC", "XBTUSDT": "XBT", "ETHUSDT": "ETH"}
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("wanted", [[SHARED_NAME, "ETH/USDT:USDT"], ["*:USDT"]], ids=["by name", "by pattern"])
async def test_a_name_of_two_markets_is_put_aside_and_the_others_run(
    venue: Venue, wanted: list[str], tmp_path: Path
) -> None:
    for _ in range(2):  # the second one reads the market list from its file
        await the_other_one_runs(venue, wanted, tmp_path)


async def the_other_one_runs(venue: Venue, wanted: list[str], state_dir: Path) -> None:
    venue.subscribed.clear()
    running = Running(venue, symbols=wanted, state_dir=state_dir)
    await running.until(lambda: venue.subscribed)
    for market_id in ("XBTUSDT", "BTCUSDT", "ETHUSDT"):
        await venue.trade(7, market_id)
    await running.until(lambda: running.intake.of(Trade))
    status = running.feed.status()
    await running.close()

    assert [(trade.symbol, trade.trade_id) for trade in running.intake.of(Trade)] == [("ETH/USDT:USDT", "7")]
    (aside,) = [stream for stream in status.streams if stream.quarantined]
    assert aside.symbol == SHARED_NAME
    assert "BTCUSDT and XBTUSDT" in (aside.quarantined or "")
    assert SHARED_NAME not in {market.symbol for market in running.feed.markets()}
    assert venue.subscribed == [["ethusdt@trade"]]


async def test_nothing_but_a_name_of_two_markets_is_a_mistake_of_the_configuration(venue: Venue) -> None:
    running = Running(venue, symbols=[SHARED_NAME])
    with pytest.raises(ConfigError, match="2 markets of the venue, BTCUSDT and XBTUSDT"):
        await running.task
