"""`ingestd gaps` with names: of what nothing knows, nothing may be called complete."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingestd.cli import cli, report
from tests.integration.test_candle_audit import store
from tests.support.daemon import write_config
from tests.support.postgres import DatabaseForTest
from tests.support.records import trade

pytestmark = pytest.mark.one_server

FEEDS = [
    {"exchange": "binance", "symbols": ["BTC/USDT", "*/USDC"]},
    {"exchange": "kraken", "symbols": ["BTC/USD"]},
]


async def gaps(config_file: Path, *arguments: str) -> tuple[int, str, str]:
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["gaps", "-c", str(config_file), *arguments])
    if isinstance(result.exception, Exception):
        return report(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


async def filled(database: DatabaseForTest, folder: Path) -> Path:
    """Two feeds; the database knows a market more, a gap of an exchange that is no longer configured, and a trade."""
    db = await database.connect()
    await db.execute(
        "INSERT INTO symbols (exchange, symbol, compact) VALUES ('binance', 'ETH/USDC', 'ETHUSDC'), "
        "('binance', 'BTC/USDT:USDT', 'BTCUSDT-PERP'), ('kraken', 'SOL/USD', 'SOLUSD')"
    )
    await db.execute(
        "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status) "
        "VALUES ('okx', 'BTC/USDT', 'trades', now() - interval '1 hour', now(), 'disconnect', 'closed')"
    )
    await store(db, [trade(1, exchange="gemini", symbol="LTC/USD")])  # by way of Kafka, say: no market is listed
    await db.close()
    return write_config(folder, {"database": {"dsn": database.dsn}, "feeds": FEEDS})


async def test_only_of_what_is_known_nothing_can_be_missing(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    config_file = await filled(postgres_database, tmp_path)
    known: list[list[str]] = [
        [],
        ["--exchange", "binance"],
        ["--exchange", "kraken", "--symbol", "BTC/USD"],
        ["--symbol", "BTC/USDT"],
        ["--exchange", "binance", "--symbol", "ETH/USDC"],
        ["--exchange", "okx", "--symbol", "BTC/USDT", "--since", "1s", "--open"],
        ["--exchange", "gemini"],
        ["--exchange", "gemini", "--symbol", "LTC/USD"],
    ]
    for arguments in known:
        assert (await gaps(config_file, *arguments))[0] == 0, arguments
    unknown: list[tuple[list[str], str]] = [
        (["--exchange", "binnance"], 'did you mean "binance"?'),
        (["--exchange", "BINANCE"], 'did you mean "binance"?'),
        (["--exchange", "krakenn", "--open"], 'did you mean "kraken"?'),
        (["--exchange", "zzz"], "there is binance, kraken, okx"),
        (["--symbol", "BTCUSDT"], "nearest: BTC/USDT"),
        (["--symbol", "btc/usdt", "--json"], "nearest: BTC/USDT"),
        (["--symbol", "eth-usdc", "--csv"], "nearest: ETH/USDC"),
        (["--symbol", "BTC/USTD"], "nearest: BTC/USD"),
        (["--exchange", "kraken", "--symbol", "BTC/USDT"], "binance, okx has it"),
        (["--exchange", "kraken", "--symbol", "ETH/USDC"], "binance has it"),
        (["--exchange", "gemini", "--symbol", "BTC/USDT:USDT"], "--symbol: "),
        (["--symbol", "*/USDC"], "--symbol: "),  # what the configuration says of several is no name of one
    ]
    for arguments, hint in unknown:
        code, out, err = await gaps(config_file, *arguments)
        assert code == 2, arguments
        assert hint in err, arguments
        assert out == ""


async def test_both_names_are_said_at_once(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    config_file = await filled(postgres_database, tmp_path)
    code, _, err = await gaps(config_file, "--exchange", "binanse", "--symbol", "BTCUSD")
    assert code == 2
    assert (
        "--exchange: neither the configuration nor the database has it (found 'binanse'); did you mean \"binance\"?"
        in err
    )
    assert "--symbol: " in err
    assert "nearest: BTC/USD" in err


@pytest.mark.parametrize(("exchange", "hint"), [("binnance", "binance"), ("BINANCE", "binance"), ("Kraken", "kraken")])
async def test_backfill_names_the_nearest_exchange(tmp_path: Path, exchange: str, hint: str) -> None:
    document: dict[str, Any] = {"database": {"dsn": "postgresql://x@localhost/x"}, "feeds": FEEDS}
    config_file = write_config(tmp_path, document)
    arguments = ["-c", str(config_file), "--exchange", exchange, "--symbol", "BTC/USD", "--channel", "trades"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["backfill", *arguments, "--from", "2026-01-01"])
    assert isinstance(result.exception, Exception)
    assert report(result.exception) == 2
    assert f'did you mean "{hint}"?' in str(result.exception)


async def test_no_open_gap_hides_none_that_ended_and_is_not_filled(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": FEEDS})

    async def said(*arguments: str) -> str:
        code, out, _ = await gaps(config_file, *arguments)
        assert code == 0
        return out.strip()

    for arguments in ([], ["--open"]):
        assert await said(*arguments) == "No gap: nothing has been captured into this database yet."
    await filled(postgres_database, tmp_path)
    assert await said("--open") == "No gap is open now; 1 has ended and is not filled: ingestd gaps"
    assert (await said("--open", "--exchange", "kraken")).startswith("No gap: nothing that was asked for")
    db = await postgres_database.connect()
    await db.execute(
        "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status) "
        "SELECT 'okx', symbol, 'trades', now() - interval '3 hours', now() - interval '2 hours', 'disconnect', symbol "
        "FROM unnest(array['unfillable', 'filled']) AS symbol"
    )
    await db.execute("UPDATE feed_gaps SET ended_at = now() - interval '1 minute' WHERE status = 'closed'")
    await db.close()
    assert await said("--open") == "No gap is open now; 2 have ended and are not filled: ingestd gaps"
    assert await said("--since", "10s") == "No gap lasted until then; 2 have ended and are not filled: ingestd gaps"
