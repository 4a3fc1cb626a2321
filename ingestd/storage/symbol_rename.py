"""Renames every stored symbol to another style: `ingestd migrate --rename-symbols`, while no daemon runs.

Chunk by chunk, each in one transaction that also records it, so that an interruption loses nothing and the next run
goes on, or goes back. A compressed chunk is decompressed, renamed and compressed again. Candles are renamed as they are
stored, and not made again: the trades of old ones are gone. The server's jobs are paused meanwhile, for a refresh would
mix names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from ingestd.channels import TABLE_OF
from ingestd.errors import ConnectionLost, DatabaseError, MarketUnknown, SchemaError
from ingestd.failpoints import passing
from ingestd.storage import backfills, relation_traits, symbol_style, symbol_texts
from ingestd.storage import engine as engines
from ingestd.storage.candles import AGGREGATES, LEVELS
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migration_steps import locked
from ingestd.storage.session_settings import SCHEMA
from ingestd.storage.symbols import load_names
from ingestd.venues.market_names import Names

log = structlog.get_logger()

_TABLE = (
    "CREATE TABLE IF NOT EXISTS ingestd_renamed (part text PRIMARY KEY, done_at timestamptz NOT NULL DEFAULT now())"
)
_PLAIN = ("feed_gaps", "candle_audit", "indicators_cache", "indicator_marks", "indicator_changes")
_OF_PACKS = ("fks.hourly_exchange_ohlcv",)  # aggregates, of which only the last days would be made again
_OF_THE_DAEMON = (
    "ohlcv_1h",
    "candles_1month",
    "candles_marks",
    "ohlcv_1h_marks",
    "ohlcv_1h_minutes",
)
_GONE = "42P01"
_JOBS_END_WITHIN_S = 300
_BETWEEN = "ingestd renames this to "  # begins the name of a market whose new name another one still has
# Trades of before units were stored say nothing of theirs, and whether they count the base currency followed from the
# unified symbol alone (`ingestd_counted_base`).
_UNIT = (
    ", contract_currency = CASE WHEN t.contract_currency IS NULL AND NOT ingestd_counted_base(t.exchange, t.symbol)"
    " THEN 'unknown' ELSE t.contract_currency END"
)
# A program that is still connected can store nothing more in the old style. The epoch of a mark is a time.
_FENCE = "UPDATE ingest_positions SET epoch = epoch + 1 WHERE source NOT LIKE 'kafka-replay:%'"
# The roles of a daemon's session and ours may differ; then the server hides when it last did something. A pooler keeps
# a session after its user has gone.
_DAEMON = (
    "SELECT application_name AS name, client_addr::text AS address FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'ingestd%'"
    " AND (state_change IS NULL OR state <> 'idle' OR state_change > now() - INTERVAL '10 seconds')"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A table, or one chunk of a hypertable, as SQL names it."""

    name: str
    of_trades: bool
    is_compressed: bool = False


@dataclass(frozen=True, slots=True)
class _Conversion:
    """From which style to which. `back`: it was begun the other way round, and what was done of it is undone.
    `settings`: the database's, as they are until its end."""

    old: Names
    new: Names
    back: bool
    settings: Mapping[str, str]

    def renamed(self, exchange: str, name: str) -> str:
        """The new name of a market. Raises MarketUnknown, also if no market has the old name."""
        symbol = self.old.symbol(exchange, name)
        if self.old.name(exchange, symbol) != name:
            raise MarketUnknown(f"'{name}' of {exchange} is no name in the style '{self.old.style}'")
        return self.new.name(exchange, symbol)


async def rename(db: Database, *, lock_timeout_s: float) -> list[str]:
    """Give every stored symbol its name in the connection's style. Return one line for each thing done.

    Raises SchemaError if a daemon is connected, if a conversion to a third style was begun, or if a market's name is
    not known; and MarketUnknown if it became unknown since a conversion was begun.
    """
    work = await _wanted(db)
    if work is None:
        return []
    await _require_no_daemon(db)
    await load_names(db)
    engine = await engines.detect(db)
    if symbol_style.NEXT_STYLE not in work.settings:
        await _require_names(db, await _parts(db, engine), work)
    work = await _begin(db, engine, work, lock_timeout_s)
    await _wait_for_jobs(db, engine)
    renamed, parts = 0, await _parts(db, engine)
    for part in parts:
        count = await _rename_part(db, part, work, lock_timeout_s)
        if count is not None:
            log.info("symbols_renamed", part=part.name, rows=count)
            renamed += count
            passing("migrate.renamed")
    renamed += await _end(db, engine, work, lock_timeout_s)
    back = "back " if work.back else ""
    return [
        f"renamed symbols {back}from the style '{work.old.style}' to '{work.new.style}': "
        f"{renamed} rows in {len(parts)} parts"
    ]


async def plan(db: Database, engine: Engine) -> list[str]:
    """What `rename` would do, as comments."""
    work = await _wanted(db)
    if work is None:
        return []
    parts = await _parts(db, engine)
    compressed = sum(part.is_compressed for part in parts)
    way = "back " if work.back else ""
    return [
        f"-- rename symbols {way}from the style '{work.old.style}' to '{work.new.style}', each part in a transaction: "
        f"{len(parts)} tables and chunks, {compressed} of them compressed",
        *(f"--   {part.name}" for part in parts),
        *(f"--   {table}, of known markets" for table in await symbol_texts.tables(db)),
    ]


async def _wanted(db: Database) -> _Conversion | None:
    """What is to be done; None: nothing."""
    settings, new = await symbol_style.read(db), db.names
    stored, begun = settings.get(symbol_style.STYLE), settings.get(symbol_style.NEXT_STYLE)
    back = stored == new.style
    if stored is None or (back and begun is None):
        return None
    if not back and begun not in (None, new.style):
        raise SchemaError(
            f"{db.target}: symbols are being renamed from the style '{stored}' to '{begun}': finish that first, with "
            f'database.symbol_style = "{begun}", or go back with "{stored}"'
        )
    old = Names(begun if back else stored, new.known)  # type: ignore[arg-type] # only a style was ever recorded
    return _Conversion(old, new, back, settings)


async def _begin(db: Database, engine: Engine, work: _Conversion, lock_timeout_s: float) -> _Conversion:
    """Record that the conversion has begun, fence off what still writes, and pause the policies, all or nothing."""
    async with locked(db, lock_timeout_s):
        await db.script("LOCK TABLE ingestd_settings IN ACCESS EXCLUSIVE MODE")  # whoever starts now reads what follows
        await _require_no_daemon(db)
        await _require_settings(db, work)
        await db.script(_TABLE)
        if not work.back:
            await _set(db, symbol_style.NEXT_STYLE, work.new.style)
        await db.execute(_FENCE)
        await backfills.forget_places(db)
        await _pause_jobs(db, engine)
        settings = await symbol_style.read(db)
    return _Conversion(work.old, work.new, work.back, settings)


async def _end(db: Database, engine: Engine, work: _Conversion, lock_timeout_s: float) -> int:
    async with locked(db, lock_timeout_s):
        await _require_settings(db, work)
        renamed = 0 if work.back else await symbol_texts.rename(db, work.old.style, work.new.style)
        await _resume_jobs(db, engine)
        await _set(db, symbol_style.STYLE, work.new.style)
        await db.execute("DELETE FROM ingestd_settings WHERE name = $1", symbol_style.NEXT_STYLE)
        await db.script("DROP TABLE ingestd_renamed")
    return renamed


async def _set(db: Database, name: str, value: str) -> None:
    sql = "INSERT INTO ingestd_settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
    await db.execute(sql, name, value)


async def _require_settings(db: Database, work: _Conversion) -> None:
    """Another program may have begun, ended or undone a conversion; what is a name in one style is none in another."""
    if await symbol_style.read(db) != work.settings:
        raise SchemaError(f"{db.target}: another program renames symbols too: run `ingestd migrate` again")


async def _require_no_daemon(db: Database) -> None:
    """A daemon would go on writing symbols in the old style."""
    row = await db.fetchrow(_DAEMON)
    holder = await db.fetchval("SELECT holder FROM ingest_leases WHERE expires_at > clock_timestamp() LIMIT 1")
    if row is not None or holder is not None:
        who = f"'{row['name']}' from {row['address'] or 'this host'}" if row is not None else f"the daemon {holder}"
        raise SchemaError(
            f"{db.target}: {who} is connected: stop every daemon before symbols are renamed, and if it is stopped, try "
            "again in 10 seconds"
        )


async def _parts(db: Database, engine: Engine) -> list[_Part]:
    """All tables that hold symbols, and of hypertables each chunk, oldest first."""
    candles = [level.relation for level in (AGGREGATES if engine.has_continuous_aggregates else LEVELS)]
    if engine.has_continuous_aggregates:
        names = [*(f'public."{name}"' for name in candles), *_OF_PACKS]
        there = await db.fetch("SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL", names)
        tables = {await relation_traits.materialised(db, row["name"]): False for row in there}
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


async def _require_names(db: Database, parts: Sequence[_Part], work: _Conversion) -> None:
    """Nothing is renamed before all names are known. Every unified symbol has a compact and a dash name."""
    if work.old.style == "unified" and work.new.style != "venue":
        return
    unknown: set[str] = set()
    for part in parts:
        for row in await db.fetch(f"SELECT DISTINCT exchange, symbol FROM {part.name}"):  # noqa: S608 # server's names
            try:
                work.renamed(row["exchange"], row["symbol"])
            except MarketUnknown:
                unknown.add(f"{row['symbol']} of {row['exchange']}")
    if not unknown:
        return
    missing = next((style for style in (work.new.style, work.old.style) if style == "venue"), None)
    hint = (
        "for the table symbols does not have them: run a daemon that lists them, or insert them there"
        if missing
        else f"nor are they names in the style '{work.old.style}': rename or delete those rows by SQL"
    )
    raise SchemaError(
        f"{db.target}: {len(unknown)} markets have no name in the style '{work.new.style}', {hint}: "
        f"{', '.join(sorted(unknown)[:10])}"
    )


async def _rename_part(db: Database, part: _Part, work: _Conversion, lock_timeout_s: float) -> int | None:
    """Rename the symbols of one part. Return how many rows changed; None if it was done before, or is gone."""
    try:
        async with locked(db, lock_timeout_s):
            await _require_settings(db, work)
            is_done = await db.fetchval("SELECT EXISTS (SELECT FROM ingestd_renamed WHERE part = $1)", part.name)
            if is_done != work.back:
                return None
            rows = await db.fetch(f"SELECT DISTINCT exchange, symbol FROM {part.name}")  # noqa: S608 # server's names
            names = [(row["exchange"], row["symbol"], work.renamed(row["exchange"], row["symbol"])) for row in rows]
            changed = [market for market in names if market[1] != market[2]]
            count = await _update(db, part, changed, with_unit=part.of_trades and work.old.style == "unified")
            if work.back:
                await db.execute("DELETE FROM ingestd_renamed WHERE part = $1", part.name)
            else:
                await db.execute("INSERT INTO ingestd_renamed (part) VALUES ($1)", part.name)
            return count
    except (ConnectionLost, DatabaseError) as error:
        state = error.sqlstate if isinstance(error, DatabaseError) else ""
        if state == _GONE and await db.fetchval("SELECT to_regclass($1::text)::text", part.name) is None:
            return None  # retention has dropped the chunk
        raise SchemaError(
            f"{db.target}: the renaming stopped at {part.name}: {error}{state and f' [{state}]'}; what is done is "
            "kept, and the same command goes on from there, or goes back with the old style"
        ) from error


async def _update(db: Database, part: _Part, changed: Sequence[tuple[str, str, str]], *, with_unit: bool) -> int:
    if not changed:
        return 0
    schema = f'"{db.extension_schema}"'
    if part.is_compressed:
        await db.fetchval(f"SELECT {schema}.decompress_chunk($1::text::regclass)::text", part.name)
    taken = {(exchange, name) for exchange, name, _ in changed}
    if any((exchange, new) in taken for exchange, _, new in changed):  # a unique index looks at each row by itself
        await _set_symbols(db, part, [(*market, _BETWEEN + new) for *market, new in changed], with_unit=with_unit)
        changed, with_unit = [(exchange, _BETWEEN + new, new) for exchange, _, new in changed], False
    count = await _set_symbols(db, part, changed, with_unit=with_unit)
    if part.is_compressed:
        await db.fetchval(f"SELECT {schema}.compress_chunk($1::text::regclass)::text", part.name)
    return count


async def _set_symbols(db: Database, part: _Part, changed: Sequence[tuple[str, ...]], *, with_unit: bool) -> int:
    return await db.execute(
        f"UPDATE {part.name} AS t SET symbol = market.name{_UNIT if with_unit else ''}"  # noqa: S608 # server's names
        " FROM unnest($1::text[], $2::text[], $3::text[]) AS market (exchange, symbol, name)"
        " WHERE t.exchange = market.exchange AND t.symbol = market.symbol",
        *map(list, zip(*changed, strict=True)),
    )


async def _pause_jobs(db: Database, engine: Engine) -> None:
    """Pause the policies of our tables. Which they were is kept with the parts that are done."""
    if engine is not Engine.TIMESCALEDB:
        return
    ours = "FROM timescaledb_information.jobs WHERE scheduled AND hypertable_schema = $1 AND hypertable_name = ANY ($2)"
    names = [*TABLE_OF.values(), *_PLAIN, *(level.relation for level in AGGREGATES)]
    await db.execute(
        f"INSERT INTO ingestd_renamed (part) SELECT 'job ' || job_id {ours} ON CONFLICT DO NOTHING", SCHEMA, names
    )
    await db.fetch(f'SELECT "{db.extension_schema}".alter_job(job_id, scheduled => false) {ours}', SCHEMA, names)


async def _wait_for_jobs(db: Database, engine: Engine) -> None:
    """Wait for those that run still."""
    if engine is not Engine.TIMESCALEDB:
        return
    running = (
        "SELECT count(*) FROM timescaledb_information.job_stats JOIN ingestd_renamed ON part = 'job ' || job_id"
        " WHERE job_status = 'Running'"
    )
    for _ in range(_JOBS_END_WITHIN_S):
        if not await db.fetchval(running):
            return
        await asyncio.sleep(1)
    raise SchemaError(f"{db.target}: a job of the server still runs after {_JOBS_END_WITHIN_S} s; try again later")


async def _resume_jobs(db: Database, engine: Engine) -> None:
    """Resume the policies that were paused and are still there."""
    if engine is Engine.TIMESCALEDB:
        paused = "FROM timescaledb_information.jobs JOIN ingestd_renamed ON part = 'job ' || job_id"
        await db.fetch(f'SELECT "{db.extension_schema}".alter_job(job_id, scheduled => true) {paused}')
