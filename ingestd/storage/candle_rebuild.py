"""The candles of TimescaleDB under another definition: made beside those that are there, of which none is lost.

Trades are kept for a year and daily candles for ten, so the old hierarchy cannot be dropped and made again. Level by
level, finest first:

1. the new level is refreshed from its source: from the trades, or from the new level below it;
2. every candle of the old level that has more trades than the new one found is put in its place: one whose trades are
   gone, or gone in part. (The same rule as on the other engines: no candle is replaced by one of fewer trades.) Trades
   that candles leave out are not missed;
3. the new level's watermark is moved over what was put there, since below it candles are read as they are stored, and
   above it they are made of the source.

The old daemon may go on meanwhile, for long if this is interrupted, and trades that made candles of the old hierarchy
may be dropped by then. So right before the end all three are done again for what came since the beginning.

Then, in one transaction, the new hierarchy gets the names, rights, comments, indexes and policies of the old one, and
views that read the old are bound to the new. The old hierarchy is dropped last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial

from ingestd.errors import SchemaError
from ingestd.storage import migration_steps, relation_traits
from ingestd.storage.candles import AGGREGATES, TICK_HOURS, Level
from ingestd.storage.database import Database
from ingestd.storage.migration_steps import Step
from ingestd.storage.rollups import refresh_call

VERSION = 10  # of the migration that is this
TAKE_OVER = "take over the names"
_MAKE = "make the new candles"

_NEXT = "ingestd_next_"
_LEFT_OUT = "ingestd_left_out"
_OLD = "ingestd_old_"
_DROP_LEFT_OUT = f"DROP TABLE IF EXISTS {_LEFT_OUT}"
_DROP_VIEW = "DROP MATERIALIZED VIEW IF EXISTS "
_MONTHS = "candles_1M"
_BUCKETS_AT_ONCE = 1440  # a day of minutes, two months of hours
_LONG = timedelta(days=1)  # the shortest time that trades are kept
_NOBODY = ""  # the exchange of the row that moves a watermark; no venue has this name

LEVELS: tuple[Level, ...] = tuple(level for level in AGGREGATES if level is not TICK_HOURS)
_RELATIONS = [level.relation for level in LEVELS]

_SAME_CANDLE = "new.bucket_start = old.bucket_start AND new.exchange = old.exchange AND new.symbol = old.symbol"
# The columns of the old candles as they are taken over: what was not true there is not true here either.
_TAKEN_OVER: Mapping[str, str] = {
    name: f"old.{name}"
    for name in (
        *("bucket_start", "exchange", "symbol", "open", "high", "low", "close", "volume"),
        *("trades_count", "taker_buy_base_volume"),
    )
} | {
    name: f"CASE WHEN ingestd_counted_base(old.exchange, old.symbol) THEN old.{name} END"
    for name in ("quote_volume", "taker_buy_quote_volume")
}


def steps(definitions: str, recorded: Step) -> list[Step]:
    """The whole work, in order. `definitions` makes the new hierarchy, empty; `recorded` says in `ingestd_migrations`
    that the schema has changed, in the transaction in which it does."""
    filling: Mapping[str, Callable[..., Awaitable[None]]] = {"refresh": _refresh, "keep": _keep, "show": _show}
    filled = [
        Step(f"{name} {level.relation}", partial(run, level=level), in_transaction=False)
        for level in LEVELS
        for name, run in filling.items()
    ]
    dropped = [
        Step(f"drop old {level.relation}", partial(Database.script, sql=_DROP_VIEW + _OLD + level.relation))
        for level in reversed(LEVELS)
    ]
    return [
        Step(_MAKE, partial(_make, definitions=definitions)),
        Step("count the trades of no candle", _count_left_out),
        *filled,
        Step("look again", _look_again, in_transaction=False, before=TAKE_OVER),
        Step(TAKE_OVER, partial(_take_over, recorded=recorded)),
        *dropped,
        Step("drop the count", partial(Database.script, sql=_DROP_LEFT_OUT)),
    ]


async def put_away(db: Database) -> None:
    """Drop a new hierarchy that is not to be finished; the old one is untouched."""
    await db.script(_DROP_LEFT_OUT)
    await db.script(f'DROP VIEW IF EXISTS "{_NEXT}{_MONTHS}"')
    for level in reversed(LEVELS):
        await db.script(_DROP_VIEW + _NEXT + level.relation)


def windows(level: Level, start: datetime | None, end: datetime) -> Iterator[tuple[datetime | None, datetime]]:
    """`[-infinity, end)` in parts of whole buckets, of which the first ends where the source begins."""
    if start is None or (first := level.start_of_bucket(start)) >= end:
        yield None, end
        return
    yield None, first
    assert level.width is not None
    while first < end:
        until = min(first + _BUCKETS_AT_ONCE * level.width, end)
        yield first, until
        first = until


async def _make(db: Database, definitions: str) -> None:
    await _require_movable(db)
    await db.script(definitions)
    for level in LEVELS:
        await relation_traits.copy_storage(db, level.relation, f"{_NEXT}{level.relation}")


async def _count_left_out(db: Database) -> None:
    """By minute and once: to ask the trades for each candle is to look into each of their chunks for each."""
    await db.script(
        f"{_DROP_LEFT_OUT}; CREATE TABLE {_LEFT_OUT} AS SELECT date_trunc('minute', time, 'UTC') AS minute,"  # noqa: S608
        " exchange, symbol, count(*) AS trades FROM trades WHERE NOT in_candles GROUP BY 1, 2, 3;"
        f"CREATE INDEX ON {_LEFT_OUT} (exchange, symbol, minute)"
    )


async def _count_left_out_since(db: Database, since: datetime) -> None:
    """Anew. Of minutes whose trades are gone by now the count stays."""
    oldest = await db.fetchval("SELECT date_trunc('minute', min(time), 'UTC') FROM trades")
    if oldest is None:
        return
    first = max(since.replace(second=0, microsecond=0), oldest)
    async with db.transaction():
        await db.execute(f"DELETE FROM {_LEFT_OUT} WHERE minute >= $1", first)  # noqa: S608 # our own name
        await db.execute(
            f"INSERT INTO {_LEFT_OUT} SELECT date_trunc('minute', time, 'UTC'), exchange, symbol, count(*)"  # noqa: S608
            " FROM trades WHERE NOT in_candles AND time >= $1 GROUP BY 1, 2, 3",
            first,
        )


async def _look_again(db: Database) -> None:
    """For what the old daemon has stored since the beginning. What has no source any more is not refreshed: that would
    delete what was made of it."""
    began = await migration_steps.done_at(db, _MAKE)
    assert began is not None
    await _count_left_out_since(db, began)
    # So long afterwards trades may be gone that had come late, for candles which were kept before that.
    is_long_ago = await db.fetchval("SELECT now() - $1::timestamptz > $2::interval", began, _LONG)
    for level in LEVELS:
        since = level.start_of_bucket(began)
        await _refresh(db, level, since)
        await _keep(db, level, None if is_long_ago else since)
        await _show(db, level)


async def _refresh(db: Database, level: Level, since: datetime | None = None) -> None:
    oldest = await _oldest_of_source(db, level)
    for start, end in await _settled_windows(db, level, oldest, since):
        await db.execute(refresh_call(db, f"{_NEXT}{level.relation}"), start, end)


async def _settled_windows(
    db: Database, level: Level, oldest: datetime | None, since: datetime | None
) -> list[tuple[datetime | None, datetime]]:
    """All windows up to the bucket that is still open, or was a moment ago: what follows is made as it is read.

    With `since`: only what began then or later; nothing if there is no oldest row.
    """
    settled: datetime = await db.fetchval("SELECT now() - $1::text::interval", level.settled_after)
    end = level.start_of_bucket(settled)
    if since is None:
        return list(windows(level, oldest, end))
    return [] if oldest is None else [window for window in windows(level, max(oldest, since), end) if window[0]]


async def _keep(db: Database, level: Level, since: datetime | None = None) -> None:
    old = await relation_traits.materialised(db, level.relation)
    new = await relation_traits.materialised(db, f"{_NEXT}{level.relation}")
    oldest = await db.fetchval(f"SELECT min(bucket_start) FROM {old}")  # noqa: S608 # the server's own names
    if oldest is None:
        return
    await db.script(f"ANALYZE {old}; ANALYZE {new}")  # no statistics of what was just filled: joins took minutes
    for start, end in await _settled_windows(db, level, oldest, since):
        async with db.transaction():
            await db.execute(_delete_poorer(level, old, new), start, end)
            await db.execute(_insert_missing(level, old, new), start, end)


def _delete_poorer(level: Level, old: str, new: str) -> str:
    return (
        f"DELETE FROM {new} AS new USING {old} AS old WHERE {_SAME_CANDLE}"  # noqa: S608 # the server's own names
        f" AND {_in_window('old')} AND {_in_window('new')}"
        f" AND old.trades_count > new.trades_count"
        f" AND old.trades_count > new.trades_count + {_left_out(level)}"
    )


def _insert_missing(level: Level, old: str, new: str) -> str:
    return (
        f"INSERT INTO {new} ({', '.join(_TAKEN_OVER)}) SELECT {', '.join(_TAKEN_OVER.values())}"  # noqa: S608
        f" FROM {old} AS old WHERE {_in_window('old')}"
        f" AND NOT EXISTS (SELECT FROM {new} AS new WHERE {_SAME_CANDLE} AND {_in_window('new')})"
        f" AND old.trades_count > {_left_out(level)}"
    )


def _in_window(alias: str) -> str:
    return f"({alias}.bucket_start >= $1 OR $1::timestamptz IS NULL) AND {alias}.bucket_start < $2::timestamptz"


def _left_out(level: Level) -> str:
    """How many trades of the old candle are stored, but belong in no candle."""
    assert level.width is not None
    return (
        f"(SELECT coalesce(sum(trades), 0) FROM {_LEFT_OUT} AS gone WHERE gone.exchange = old.exchange"  # noqa: S608
        " AND gone.symbol = old.symbol AND gone.minute >= old.bucket_start"
        f" AND gone.minute < old.bucket_start + INTERVAL '{level.width.total_seconds():.0f} seconds')"
    )


async def _show(db: Database, level: Level) -> None:
    """Move the watermark over what was put below it.

    A refresh moves it to the newest row at or after the window's start, and only if it changed a row: so one bucket,
    the one before the oldest candle, is given a row for the refresh to delete.
    """
    relation = f"{_NEXT}{level.relation}"
    new = await relation_traits.materialised(db, relation)
    await db.execute(f"DELETE FROM {new} WHERE exchange = $1", _NOBODY)  # noqa: S608 # of an interrupted step
    span = await db.fetchrow(f"SELECT min(bucket_start) AS oldest, max(bucket_start) AS newest FROM {new}")  # noqa: S608
    assert span is not None
    if span["newest"] is None or await _watermark(db, relation) > span["newest"]:
        return
    assert level.width is not None
    before = span["oldest"] - level.width
    await db.execute(
        f"INSERT INTO {new} (bucket_start, exchange, symbol, trades_count) VALUES ($1, $2, '', 0)",  # noqa: S608
        before,
        _NOBODY,
    )
    await db.execute(refresh_call(db, relation, force=True), before, span["oldest"])
    if await _watermark(db, relation) <= span["newest"]:
        raise SchemaError(f"{db.target}: the candles that were kept in {relation} stay out of sight; report this")


async def _watermark(db: Database, relation: str) -> datetime:
    """Below it, candles are read as they are stored."""
    found: datetime = await db.fetchval(
        "SELECT _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(hypertable.id))"
        " FROM _timescaledb_catalog.hypertable AS hypertable"
        " WHERE quote_ident(schema_name) || '.' || quote_ident(table_name) = $1",
        await relation_traits.materialised(db, relation),
    )
    return found


async def _take_over(db: Database, recorded: Step) -> None:
    await _require_movable(db)
    readers = await relation_traits.rebound_views(db, _RELATIONS, except_for={_MONTHS})
    for level in LEVELS:
        for copy in (relation_traits.copy_rights, relation_traits.copy_comments, relation_traits.copy_policies):
            await copy(db, level.relation, f"{_NEXT}{level.relation}")
    for level in LEVELS:
        await db.script(
            f"ALTER MATERIALIZED VIEW {level.relation} RENAME TO {_OLD}{level.relation};"
            f"ALTER MATERIALIZED VIEW {_NEXT}{level.relation} RENAME TO {level.relation}"
        )
    months = await db.fetchval("SELECT pg_get_viewdef($1::text::regclass)", f'"{_NEXT}{_MONTHS}"')
    await db.script(f'CREATE OR REPLACE VIEW "{_MONTHS}" AS {months} DROP VIEW "{_NEXT}{_MONTHS}"')
    for statement in readers:
        await db.script(statement)
    await recorded.run(db)


async def _require_movable(db: Database) -> None:
    """Raises SchemaError, naming what reads the old hierarchy and cannot be bound to the new one."""
    obstacles = await relation_traits.immovable_readers(db, _RELATIONS, except_for={_MONTHS})
    if obstacles:
        raise SchemaError(
            f"{db.target}: the candles are made again under the same names, and {', '.join(obstacles)} would go on "
            "reading the old ones: drop it, run `ingestd migrate`, and create it again (plain views that you own are "
            "moved without that)"
        )


async def _oldest_of_source(db: Database, level: Level) -> datetime | None:
    column, source = ("time", "trades") if level.source == "trades" else ("bucket_start", f"{_NEXT}{level.source}")
    oldest: datetime | None = await db.fetchval(f"SELECT min({column}) FROM {source}")  # noqa: S608 # our own names
    return oldest
