"""Renames every stored symbol to another style: `ingestd migrate --rename-symbols`, while no daemon runs.

Chunk by chunk, each in one transaction that also records it, so that an interruption loses nothing and the next run
goes on. A compressed chunk is decompressed, renamed and compressed again. Candles are renamed as they are stored, and
not made again: the trades of old ones are gone. The server's jobs are paused meanwhile, for a refresh would mix names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from ingestd.channels import TABLE_OF
from ingestd.errors import DatabaseError, MarketUnknown, SchemaError
from ingestd.failpoints import passing
from ingestd.storage import engine as engines
from ingestd.storage import relation_traits, symbol_style
from ingestd.storage.candles import AGGREGATES, LEVELS
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migration_steps import locked
from ingestd.storage.symbols import load_names
from ingestd.venues.market_names import Names

log = structlog.get_logger()

_TABLE = (
    "CREATE TABLE IF NOT EXISTS ingestd_renamed (part text PRIMARY KEY, done_at timestamptz NOT NULL DEFAULT now())"
)
_PLAIN = ("feed_gaps", "candle_audit")
_OF_EVENTS = ("orders", "executions", "completed_trades", "audit.trade_logs")
_COLUMN_OF = {"unified": "symbol", "compact": "compact", "dash": "dash", "venue": "venue_name"}
_OF_THE_DAEMON = (
    "ohlcv_1h",
    "candles_1month",
    "candles_marks",
    "ohlcv_1h_marks",
    "ohlcv_1h_minutes",
)
_GONE = "42P01"
_JOBS_END_WITHIN_S = 300
# Trades of before units were stored say nothing of theirs, and whether they count the base currency followed from the
# unified symbol alone (`ingestd_counted_base`).
_UNIT = (
    ", contract_currency = CASE WHEN t.contract_currency IS NULL AND NOT ingestd_counted_base(t.exchange, t.symbol)"
    " THEN 'unknown' ELSE t.contract_currency END"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A table, or one chunk of a hypertable, as SQL names it."""

    name: str
    of_trades: bool
    is_compressed: bool = False


async def rename(db: Database, *, lock_timeout_s: float) -> list[str]:
    """Give every stored symbol its name in the connection's style. Return one line for each thing done.

    Raises SchemaError if a daemon is connected, if another conversion was
    begun, or if a market's new name is not known.
    """
    settings = await symbol_style.read(db)
    old_style, new = settings[symbol_style.STYLE], db.names
    begun = settings.get(symbol_style.NEXT_STYLE)
    if begun is None and old_style == new.style:
        return []
    if begun is not None and begun != new.style:
        raise SchemaError(
            f"{db.target}: symbols are being renamed to the style '{begun}': finish that first, with "
            f'database.symbol_style = "{begun}"'
        )
    await _require_no_daemon(db)
    await load_names(db)
    old = Names(old_style, new.known)  # type: ignore[arg-type] # only a style was ever recorded
    engine = await engines.detect(db)
    parts = await _parts(db, engine)
    if begun is None and "venue" in (old.style, new.style):
        await _require_names(db, parts, old, new)
    async with locked(db, lock_timeout_s):
        await db.script(_TABLE)
        await _set(db, symbol_style.NEXT_STYLE, new.style)
    await _pause_jobs(db, engine)
    renamed = 0
    for part in parts:
        count = await _rename_part(db, part, old, new, lock_timeout_s)
        if count is not None:
            log.info("symbols_renamed", part=part.name, rows=count)
            renamed += count
            passing("migrate.renamed")
    await _resume_jobs(db)
    async with locked(db, lock_timeout_s):
        renamed += await _rename_in_events(db, old, new)
        await _set(db, symbol_style.STYLE, new.style)
        await db.execute("DELETE FROM ingestd_settings WHERE name = $1", symbol_style.NEXT_STYLE)
        await db.script("DROP TABLE ingestd_renamed")
    return [f"renamed symbols from the style '{old_style}' to '{new.style}': {renamed} rows in {len(parts)} parts"]


async def _set(db: Database, name: str, value: str) -> None:
    sql = "INSERT INTO ingestd_settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
    await db.execute(sql, name, value)


async def _require_no_daemon(db: Database) -> None:
    """A daemon would go on writing symbols in the old style."""
    row = await db.fetchrow(
        "SELECT application_name AS name, client_addr::text AS address FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'ingestd%'"
    )
    holder = await db.fetchval("SELECT holder FROM ingest_leases WHERE expires_at > clock_timestamp() LIMIT 1")
    if row is not None or holder is not None:
        who = f"'{row['name']}' from {row['address'] or 'this host'}" if row is not None else f"the daemon {holder}"
        raise SchemaError(f"{db.target}: {who} is connected: stop every daemon before symbols are renamed")


async def _parts(db: Database, engine: Engine) -> list[_Part]:
    """All tables that hold symbols, and of hypertables each chunk, oldest first."""
    candles = [level.relation for level in (AGGREGATES if engine.has_continuous_aggregates else LEVELS)]
    if engine.has_continuous_aggregates:
        tables = {await relation_traits.materialised(db, f'"{name}"'): False for name in candles}
    else:
        tables = {f'public."{name}"': False for name in (*candles, *_OF_THE_DAEMON)}
    tables |= {f"public.{name}": name == "trades" for name in (*TABLE_OF.values(), *_PLAIN)}
    parts: list[_Part] = []
    for table, of_trades in tables.items():
        if await db.fetchval("SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1::text)", table) != "r":
            continue
        chunks = [] if engine is Engine.POSTGRES else await _chunks(db, table, of_trades)
        parts += chunks or [_Part(table, of_trades)]
    return parts


async def _chunks(db: Database, table: str, of_trades: bool) -> list[_Part]:
    rows = await db.fetch(
        "SELECT format('%I.%I', chunk_schema, chunk_name) AS name, is_compressed FROM timescaledb_information.chunks"
        " WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = $1::text::regclass"
        " ORDER BY range_start, chunk_name",
        table,
    )
    return [_Part(row["name"], of_trades, bool(row["is_compressed"])) for row in rows]


async def _rename_in_events(db: Database, old: Names, new: Names) -> int:
    """Rename the symbols of trading events, where the market is known; the others are texts of other programs."""
    before, after = _COLUMN_OF[old.style], _COLUMN_OF[new.style]
    renamed = 0
    for table in _OF_EVENTS:
        renamed += await db.execute(
            f"UPDATE {table} AS t SET symbol = market.{after} FROM symbols AS market"  # noqa: S608 # our own names
            f' WHERE (market.exchange, market.{before}) = (t.exchange COLLATE "C", t.symbol COLLATE "C")'
            f' AND market.{after} <> t.symbol COLLATE "C"'
        )
    return renamed


async def _require_names(db: Database, parts: Sequence[_Part], old: Names, new: Names) -> None:
    """Only the venue's own names may be unknown. Nothing is renamed before all are known."""
    unknown: set[str] = set()
    for part in parts:
        for row in await db.fetch(f"SELECT DISTINCT exchange, symbol FROM {part.name}"):  # noqa: S608 # server's names
            try:
                new.name(row["exchange"], old.symbol(row["exchange"], row["symbol"]))
            except MarketUnknown:
                unknown.add(f"{row['symbol']} of {row['exchange']}")
    if unknown:
        raise SchemaError(
            f"{db.target}: {len(unknown)} markets have no name in the style '{new.style}', for the table symbols does "
            f"not have them: {', '.join(sorted(unknown)[:10])}; run a daemon that lists them, or insert them there"
        )


async def _rename_part(db: Database, part: _Part, old: Names, new: Names, lock_timeout_s: float) -> int | None:
    """Rename the symbols of one part. Return how many rows changed; None if it was done before, or is gone."""
    try:
        async with locked(db, lock_timeout_s):
            if await db.fetchval("SELECT EXISTS (SELECT FROM ingestd_renamed WHERE part = $1)", part.name):
                return None
            rows = await db.fetch(f"SELECT DISTINCT exchange, symbol FROM {part.name}")  # noqa: S608 # server's names
            given = [(row["exchange"], row["symbol"]) for row in rows]
            names = [(market, new.name(market[0], old.symbol(*market))) for market in given]
            changed = [(*market, name) for market, name in names if name != market[1]]
            count = await _update(db, part, changed, with_unit=part.of_trades and old.style == "unified")
            await db.execute("INSERT INTO ingestd_renamed (part) VALUES ($1)", part.name)
            return count
    except DatabaseError as error:
        if error.sqlstate == _GONE and await db.fetchval("SELECT to_regclass($1::text)::text", part.name) is None:
            return None  # retention has dropped the chunk
        raise


async def _update(db: Database, part: _Part, changed: Sequence[tuple[str, str, str]], *, with_unit: bool) -> int:
    if not changed:
        return 0
    schema = f'"{db.extension_schema}"'
    if part.is_compressed:
        await db.fetchval(f"SELECT {schema}.decompress_chunk($1::text::regclass)::text", part.name)
    count = await db.execute(
        f"UPDATE {part.name} AS t SET symbol = market.name{_UNIT if with_unit else ''}"  # noqa: S608 # server's names
        " FROM unnest($1::text[], $2::text[], $3::text[]) AS market (exchange, symbol, name)"
        " WHERE t.exchange = market.exchange AND t.symbol = market.symbol",
        *map(list, zip(*changed, strict=True)),
    )
    if part.is_compressed:
        await db.fetchval(f"SELECT {schema}.compress_chunk($1::text::regclass)::text", part.name)
    return count


async def _pause_jobs(db: Database, engine: Engine) -> None:
    """Pause the policies, and wait for those that run. Which they were is kept with the parts that are done."""
    if engine is not Engine.TIMESCALEDB:
        return
    ours = "FROM timescaledb_information.jobs WHERE scheduled AND hypertable_name IS NOT NULL"
    async with db.transaction():
        await db.execute(f"INSERT INTO ingestd_renamed (part) SELECT 'job ' || job_id {ours} ON CONFLICT DO NOTHING")
        await db.fetch(f'SELECT "{db.extension_schema}".alter_job(job_id, scheduled => false) {ours}')
    running = "SELECT count(*) FROM timescaledb_information.job_stats WHERE job_status = 'Running'"
    for _ in range(_JOBS_END_WITHIN_S):
        if not await db.fetchval(running):
            return
        await asyncio.sleep(1)
    raise SchemaError(f"{db.target}: a job of the server still runs after {_JOBS_END_WITHIN_S} s; try again later")


async def _resume_jobs(db: Database) -> None:
    rows = await db.fetch("SELECT substr(part, 5)::integer AS job FROM ingestd_renamed WHERE part LIKE 'job %'")
    for row in rows:
        await db.fetch(f'SELECT "{db.extension_schema}".alter_job($1::integer, scheduled => true)', row["job"])
