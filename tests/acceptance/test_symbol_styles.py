"""The real process with another style of symbols in each sink, and against a database that has another one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.lab.sim.synthetic.venue import synthetic_venue
from tests.support.daemon import running, write_config
from tests.support.postgres import DatabaseForTest
from tests.support.redis_servers import reader


def ingestd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ingestd", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("style", "spot", "perpetual"),
    [("venue", "{base}{quote}", "{base}{quote}.P"), ("compact", "{base}{quote}", "{base}{quote}.P")],
)
async def test_each_sink_has_its_own_style(
    database: DatabaseForTest,
    make_server: Callable[..., EmbeddedValkey],
    tmp_path: Path,
    style: str,
    spot: str,
    perpetual: str,
) -> None:
    server = make_server()
    async with synthetic_venue(symbols=4, rate=400.0) as venue:
        feed = {
            "exchange": "binance",
            "symbols": list(venue.symbols),
            "channels": ["trades", "ticks"],
            "url_map": venue.url_map,
        }
        document: dict[str, Any] = {
            "database": {"dsn": database.dsn, "symbol_style": style},
            "redis": {"url": server.url, "symbol_style": "dash"},
            "feeds": [feed],
        }
        config_file = write_config(tmp_path, document)
        refused = ingestd("run", "-c", config_file)
        assert refused.returncode != 0
        assert f"in the style 'unified', and database.symbol_style is '{style}'" in refused.stderr + refused.stdout
        renamed = ingestd("migrate", "-c", config_file, "--rename-symbols")
        assert renamed.returncode == 0, renamed.stderr
        assert f"renamed symbols from the style 'unified' to '{style}'" in renamed.stdout
        with reader(server.url) as client, client.pubsub() as listener:
            listener.psubscribe("trades:*")
            async with running(config_file) as daemon:
                await daemon.until(lambda received: received.get("trades", 0) > 300)
                await venue.stop()
                await daemon.quiet()
                assert await daemon.stop() == 0
            channels = set()
            while message := listener.get_message(timeout=1):
                if message["type"] == "pmessage":
                    channels.add(message["channel"].rpartition(":")[2])
        lines = [json.loads(line) for line in venue.ledger.trade_lines()]

    def named(symbol: str, of_spot: str, of_perpetual: str) -> str:
        base, _, rest = symbol.partition("/")
        return (of_perpetual if ":" in rest else of_spot).format(base=base, quote=rest.partition(":")[0])

    sent = Counter(named(line["symbol"], spot, perpetual) for line in lines)
    assert len(sent) == 4
    db = await database.connect()
    rows = await db.fetch("SELECT symbol, count(*) AS n FROM trades GROUP BY 1")
    assert {row["symbol"]: row["n"] for row in rows} == sent
    listed = await db.fetch("SELECT symbol, compact, venue_name FROM symbols")
    assert {row["venue_name" if style == "venue" else "compact"] for row in listed} >= set(sent)
    candles = await db.fetch("SELECT DISTINCT symbol FROM candles_1m")
    assert {row["symbol"] for row in candles} == set(sent)
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 0
    assert channels == {named(line["symbol"], "{base}-{quote}", "{base}-{quote}.P") for line in lines}
    await db.close()
