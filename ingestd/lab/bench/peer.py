"""Measures cryptofeed's Postgres, Redis and Kafka backends on the same trades, in a separate virtual environment.

Messages go to cryptofeed's handler without a socket, so only cryptofeed is spared the cost of reading one. Its
Postgres backend writes into a table like `trades`, with the same columns and the same unique index.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures, us_each
from ingestd.lab.bench.rig import Plan, Server
from ingestd.lab.bench.sample import trades
from ingestd.lab.demo.processes import LabError, connected
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.records import Trade
from ingestd.storage.dsn import describe_target

CRYPTOFEED = "cryptofeed==2.4.1"
# The backends' drivers, in the versions that ingestd uses.
_DRIVERS = ("asyncpg", "redis", "aiokafka")
_SCRIPT = Path(__file__).with_name("peer_cryptofeed.py")
_KAFKA_SHARE = 20  # divides the number of rows: this backend waits for the answer to every message
_TABLE = "peer_trades"
_COLUMNS = {
    "timestamp": "time",
    "exchange": "exchange",
    "symbol": "symbol",
    "id": "trade_id",
    "side": "side",
    "price": "price",
    "amount": "quantity",
    "receipt": "received_at",
}
_LONGEST_S = 600.0


async def measure(plan: Plan, server: Server, figures: Figures, python: Path | None) -> None:
    """Measure each backend. `python`: an interpreter with cryptofeed; None: install it in the user's cache folder."""
    interpreter = python or await _installed(plan)
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        file = Path(folder) / "frames.ndjson"
        names = write_frames(file, plan.rows, plan.symbols)
        runs = []
        for number in range(plan.rounds):
            plan.say(f"cryptofeed, round {number + 1} of {plan.rounds}: {plan.rows:,} trades into Postgres")
            runs.append(await _postgres(interpreter, server, file, names, plan.rows))
        rates, costs = zip(*runs, strict=True)
        figures.rate("peer.postgres", "cryptofeed, Postgres backend", rates, limit="wire.psql", note=CRYPTOFEED)
        cost = statistics.median_high(costs)
        figures.add("peer.postgres_us", "cryptofeed, Postgres backend: processor time", cost, "µs per event")
        plan.say("cryptofeed into Redis, then Kafka")
        with EmbeddedValkey() as valkey:
            options = {"symbols": names, "port": valkey.port}
            rate, _ = await _run(interpreter, "redis", file, options)
        figures.rate("peer.redis", "cryptofeed, Redis backend", [rate], limit="redis.published", note=CRYPTOFEED)
        few = Path(folder) / "few.ndjson"
        write_frames(few, plan.rows // _KAFKA_SHARE, plan.symbols)
        with rig.broker(plan.kafka) as broker:
            options = {"symbols": names, "bootstrap_servers": broker["bootstrap_servers"][0]}
            rate, _ = await _run(interpreter, "kafka", few, options)
        figures.rate("peer.kafka", "cryptofeed, Kafka backend", [rate], limit="kafka.sink", note=CRYPTOFEED)


def write_frames(file: Path, count: int, symbols: int) -> dict[str, str]:
    """Write aggregate trades as frames of Binance's combined sockets, which cryptofeed subscribes to; return its names
    and the venue's names of the symbols."""
    names = {f"S{number:04d}-USDT": f"S{number:04d}USDT" for number in range(symbols)}
    ids = list(names.values())
    with file.open("w", encoding="ascii") as frames:
        for number, record in enumerate(trades(count)):
            assert type(record) is Trade, "it was made up so"
            frames.write(aggregate_trade(record, ids[number % symbols]) + "\n")
    return names


def aggregate_trade(trade: Trade, market_id: str) -> str:
    """Build one frame."""
    time_ms, maker = trade.time // 1000, "true" if trade.side == "sell" else "false"
    return (
        f'{{"stream":"{market_id.lower()}@aggTrade","data":{{"e":"aggTrade","E":{time_ms},"s":"{market_id}",'
        f'"a":{trade.trade_id},"p":"{trade.price}","q":"{trade.quantity}","f":{trade.trade_id},"l":{trade.trade_id},'
        f'"T":{time_ms},"m":{maker},"M":true}}}}'
    )


async def _postgres(
    interpreter: Path, server: Server, file: Path, names: dict[str, str], rows: int
) -> tuple[float, float]:
    async with server.database() as dsn, connected(dsn) as database:
        await database.execute(f"CREATE TABLE {_TABLE} (LIKE trades INCLUDING ALL)")
        await database.execute(f"ALTER TABLE {_TABLE} ALTER seq SET DEFAULT 0")
        await database.execute("CHECKPOINT")
        target = describe_target(dsn)
        place = target.places[0]
        options = {
            "symbols": names,
            "host": place.host,
            "port": place.port,
            "user": target.user,
            "pw": place.password,
            "db": target.database,
            "table": _TABLE,
            "custom_columns": _COLUMNS,
        }
        measured = await _run(interpreter, "postgres", file, options)
        await rig.check_stored(database, rows, _TABLE)
    return measured


async def _run(interpreter: Path, backend: str, file: Path, options: dict[str, Any]) -> tuple[float, float]:
    """Frames per second, and microseconds of processor time per frame."""
    # The options hold a password, and every user of the machine can see a process's arguments.
    command = [str(interpreter), str(_SCRIPT), backend, str(file)]
    text = await _output(command, f"its {backend}", json.dumps(options).encode())
    result = json.loads(text.splitlines()[-1])
    return result["frames"] / result["seconds"], us_each(result["processor_s"], result["frames"])


async def _installed(plan: Plan) -> Path:
    """Return the interpreter of a virtual environment with cryptofeed; create it if it does not exist."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "ingestd" / f"peer-{CRYPTOFEED.replace('==', '-')}-py{sys.version_info[0]}.{sys.version_info[1]}"
    interpreter, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        plan.say(f"installing {CRYPTOFEED} in {folder}")
        await _output([sys.executable, "-m", "venv", "--clear", str(folder)], "venv")
        drivers = [f"{name}=={version(name)}" for name in _DRIVERS]
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        await _output([*pip, CRYPTOFEED, *drivers], "pip")
        done.touch()
    return interpreter


async def _output(command: Sequence[str], what: str, told: bytes = b"") -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(_LONGEST_S):
            out, err = await process.communicate(told)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise LabError(f"cryptofeed: {what} failed:\n{err.decode(errors='replace').strip()[-2000:]}")
    return out.decode()
