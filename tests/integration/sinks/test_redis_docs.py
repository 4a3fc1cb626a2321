"""docs/redis.md, read with the server's own command-line client: a program that shares nothing with the daemon."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.records import BookSnapshot, Tick, Trade
from tests.support.redis_servers import Rig, running

PAGE = (Path(__file__).parents[3] / "docs" / "redis.md").read_text(encoding="utf-8")
AT_US = int(datetime.fromisoformat("2026-01-06T22:00:00.123000+00:00").timestamp() * 1_000_000)
MARKET = ("binance", "BTC/USDT", AT_US, AT_US)

Make = Callable[..., EmbeddedValkey]


@pytest.fixture
def redis_cli() -> str:
    found = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if found is None:
        pytest.skip("no redis-cli on this machine (Debian: apt install redis-tools)")
    return found


async def cli(program: str, server: EmbeddedValkey, *words: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(server.port), *words, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode().splitlines()


def show_everything(rig: Rig) -> None:
    rig.live.put_all([Tick(*MARKET, "50000.50", "1.50", "50001.00", "0.75")])
    rig.live.put_all([Trade(*MARKET, "4000000001", 4_000_000_001, "buy", "50000.50", "0.00100000")])
    rig.live.put_all(
        [BookSnapshot(*MARKET, (("50000.50", "1.50"), ("50000.00", "2")), (("50001.00", "0.10"),), 1, True)]
    )


def documented_hashes() -> dict[str, dict[str, str]]:
    """What the page says `HGETALL` prints, for the keys that the records above fill."""
    (session,) = re.findall(r"```\n(> HGETALL market.*?)```", PAGE, re.DOTALL)
    answers = dict(re.findall(r"> HGETALL (\S+)\n([^>]*?)\n(?=>|\Z)", session))
    return {
        key: dict(field.split(" ", 1) for field in answer.split("   "))
        for key, answer in answers.items()
        if not key.startswith("metrics:")
    }


async def test_the_keys_are_what_the_page_shows(make_server: Make, redis_cli: str) -> None:
    server = make_server()
    hashes = documented_hashes()
    assert len(hashes) == 4
    async with running(server.url) as rig:
        await rig.up()
        show_everything(rig)
        for key, fields in hashes.items():
            async with asyncio.timeout(60):
                lines = await cli(redis_cli, server, "HGETALL", key)
                while not any(lines):  # of a key that is not there yet it prints an empty line
                    await asyncio.sleep(0.05)
                    lines = await cli(redis_cli, server, "HGETALL", key)
            assert dict(zip(lines[::2], lines[1::2], strict=True)) == fields, key
        (candle,) = await cli(redis_cli, server, "LRANGE", "candle:binance:BTCUSDT:1m", "0", "0")
        (shown,) = re.findall(r"> LRANGE candle\S+ 0 0\n(.*)\n", PAGE)
        assert list(json.loads(candle)) == list(json.loads(shown))


async def test_the_messages_are_what_the_page_shows(make_server: Make, redis_cli: str) -> None:
    server = make_server()
    documented = dict(re.findall(r"^\| `(market_data|trades):\S+` \|.*?\| `(\{.*\})` \|$", PAGE, re.MULTILINE))
    assert len(documented) == 2
    listener = await asyncio.create_subprocess_exec(
        redis_cli, "-p", str(server.port), "PSUBSCRIBE", "market_data:*", "trades:*", stdout=asyncio.subprocess.PIPE
    )
    assert listener.stdout is not None
    heard: dict[str, str] = {}
    try:
        async with running(server.url) as rig, asyncio.timeout(60):
            await rig.up()
            for _ in range(6):  # two subscriptions of three lines each
                await listener.stdout.readline()
            show_everything(rig)
            while len(heard) < 2:
                lines = [(await listener.stdout.readline()).decode().rstrip("\n") for _ in range(4)]
                heard[lines[2].partition(":")[0]] = lines[3]
    finally:
        listener.kill()
        await listener.wait()
    assert heard == documented
