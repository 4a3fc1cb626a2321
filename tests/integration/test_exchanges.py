"""`ingestd exchanges`: offline what there is, and from a venue on this machine its markets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from click.testing import CliRunner

from ingestd.cli import cli
from ingestd.errors import ConfigError
from ingestd.feeds.ccxt.tap import exchange_ids
from ingestd.feeds.markets.cache import MarketCache
from ingestd.records import CHANNELS
from tests.support.daemon import ingestd
from tests.support.list_venue import ListVenue, binance_spot

LIST = "api.binance.com/api/v3/exchangeInfo"
BODIES = {
    LIST: {
        "symbols": [
            binance_spot("ETHUSDT", "ETH"),
            binance_spot("BTCUSDT", "BTC"),
            binance_spot("ETHBTC", "ETH", "BTC"),
            binance_spot("EVILUSDT", "E\x1b[2J"),
        ]
    },
    "fapi": {"symbols": []},
}


def written(folder: Path, venue: ListVenue, **more: Any) -> Path:
    feed = {"exchange": "binance", "symbols": ["BTC/USDT"], "url_map": venue.url_map, **more}
    file = folder / "ingestd.toml"
    file.write_text(tomlkit.dumps({"instance": {"state_dir": str(folder)}, "feeds": [feed]}), encoding="utf-8")
    return file


def test_every_exchange_is_on_a_line_of_its_own() -> None:
    lines = CliRunner().invoke(cli, ["exchanges"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(exchange_ids())
    (binance,) = [line.split() for line in lines if line.startswith("binance ")]
    assert binance[1:] == ["native", *CHANNELS]
    assert all(line.isprintable() for line in lines)


def test_an_exchange_says_its_channels_and_who_reads_them() -> None:
    runner = CliRunner()
    shown = json.loads(runner.invoke(cli, ["exchanges", "okx", "--json"]).stdout)
    assert shown["channels"]["trades"] == "native"
    assert shown["channels"]["candles"] == "ccxt"
    assert "1m" in shown["candles"]
    text = runner.invoke(cli, ["exchanges", "okx"]).stdout
    assert all(channel in text for channel in shown["channels"])
    assert "ingestd exchanges okx --match" in text


@pytest.mark.parametrize("name", ["BINANCE", "binnance", "bin\x1b[2Jance"])
def test_a_name_of_none_is_refused_with_the_nearest(name: str) -> None:
    result = CliRunner().invoke(cli, ["exchanges", name])
    assert isinstance(result.exception, ConfigError)
    assert 'did you mean "binance"?' in str(result.exception)
    assert str(result.exception).isprintable()


@pytest.mark.parametrize("arguments", [["--match", "*"], ["-c", "pyproject.toml"]])
def test_a_market_is_of_an_exchange(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, ["exchanges", *arguments]).exit_code == 2


async def test_the_markets_that_match_are_listed_for_a_pipe(tmp_path: Path) -> None:
    async with ListVenue(BODIES) as venue:
        file = written(tmp_path, venue)
        code, out, err = await ingestd("exchanges", "binance", "-c", str(file), "--match", "*/USDT")
        assert (code, out) == (0, "BTC/USDT\nETH/USDT\n")
        assert "2 of the 3 markets" in err
        assert "list of inverse markets cannot be had" in err
        code, out, _ = await ingestd("exchanges", "binance", "-c", str(file), "--match", "ETH/BTC", "--json")
        shown = json.loads(out)
        assert (code, shown["markets"]) == (0, [{"symbol": "ETH/BTC", "kind": "spot"}])
        code, out, err = await ingestd("exchanges", "binance", "-c", str(file), "--match", "btcusdt")
        assert (code, out) == (1, "")
        assert "nearest: BTC/USDT" in err


async def test_the_list_that_a_daemon_keeps_is_enough(tmp_path: Path) -> None:
    async with ListVenue({}) as venue:
        file = written(tmp_path, venue)
        config = venue.config("binance", ["BTC/USDT"])
        MarketCache(tmp_path, config).write([{"symbol": "BTC/USDT", "id": "BTCUSDT", "spot": True}])
        code, out, err = await ingestd("exchanges", "binance", "-c", str(file), "--match", "BTC/*")
        assert venue.requests == []
    assert (code, out) == (0, "BTC/USDT\n")
    assert "from the list that a daemon loaded 0.0 h ago" in err


async def test_a_venue_that_is_out_of_reach_is_said_so(tmp_path: Path) -> None:
    async with ListVenue({}) as venue:
        code, out, err = await ingestd("exchanges", "binance", "-c", str(written(tmp_path, venue)), "--match", "*")
    assert (code, out) == (1, "")
    assert "the markets of binance cannot be had" in err
    assert "451" in err
    assert "Traceback" not in err
