"""Chunk intervals, compression, retention and refresh policies, made equal to the configuration.

TimescaleDB only. The configuration decides: policies that were changed by hand are set back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ingestd.channels import ROWS
from ingestd.config.models import Config, RetentionConfig
from ingestd.storage.candles import AGGREGATES, FOR_EVER, Level, interval_days, require_room
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.session_settings import SCHEMA

HYPERTABLES = tuple(row.table for row in ROWS)

_NEVER = "never"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between database and configuration: in words, and as the SQL that removes it."""

    text: str
    sql: str


@dataclass(frozen=True, slots=True)
class Present:
    """The policies of the database: relation name to interval text."""

    chunks: Mapping[str, str]
    compression: Mapping[str, str]
    retention: Mapping[str, str]
    refresh: Mapping[str, tuple[str, str, str]]


async def converge(db: Database, engine: Engine, config: Config) -> list[str]:
    """Remove every difference, in the caller's transaction. One line for each change."""
    found = await changes(db, engine, config)
    for change in found:
        await db.script(change.sql)
    return [change.text for change in found]


async def changes(db: Database, engine: Engine, config: Config) -> list[Change]:
    """The differences. Changes nothing.

    Raises ConfigError when a retention is so short that a rollup would be refreshed over rows already dropped.
    """
    require_room(config.retention)
    if not engine.has_hypertables:
        return []
    return list(differences(await _read(db), engine, config))


def differences(present: Present, engine: Engine, config: Config) -> Iterator[Change]:
    """The differences between the present policies and the configuration, for a server with hypertables."""
    yield from _chunk_changes(present, config)
    if engine.has_continuous_aggregates:
        yield from _compression_changes(present, config)
        yield from _retention_changes(present, config.retention)
        yield from _refresh_changes(present, config.retention)


def kept_days(table: str, retention: RetentionConfig) -> int:
    """How long chunks of the table are kept: those of ohlcv_data, as long as the longest-kept timeframe."""
    if table != "ohlcv_data":
        return int(getattr(retention, f"{table}_days"))
    kept = (retention.ohlcv_data_minutes_days, retention.ohlcv_data_hours_days, retention.ohlcv_data_days_days)
    return FOR_EVER if FOR_EVER in kept else max(kept)


async def _read(db: Database) -> Present:
    # Two statements, since continuous aggregates show their materialised table's name among the dimensions.
    dimensions = await db.fetch(
        "SELECT hypertable_name AS name, time_interval::text AS interval FROM timescaledb_information.dimensions"
        " WHERE hypertable_schema = $1",
        SCHEMA,
    )
    jobs = await db.fetch(
        "SELECT hypertable_name AS name, proc_name, schedule_interval::text AS every,"
        " (config->>'compress_after')::interval::text AS compress_after,"
        " (config->>'drop_after')::interval::text AS drop_after,"
        " (config->>'start_offset')::interval::text AS start_offset,"
        " (config->>'end_offset')::interval::text AS end_offset"
        " FROM timescaledb_information.jobs WHERE hypertable_schema = $1",
        SCHEMA,
    )
    return Present(
        chunks={row["name"]: row["interval"] for row in dimensions},
        compression={row["name"]: row["compress_after"] for row in jobs if row["proc_name"] == "policy_compression"},
        retention={row["name"]: row["drop_after"] for row in jobs if row["proc_name"] == "policy_retention"},
        refresh={
            row["name"]: (row["start_offset"], row["end_offset"], row["every"])
            for row in jobs
            if row["proc_name"] == "policy_refresh_continuous_aggregate"
        },
    )


def _chunk_changes(present: Present, config: Config) -> Iterator[Change]:
    for table in HYPERTABLES:
        wanted = interval_days(getattr(config.chunks, f"{table}_days"))
        if present.chunks.get(table) != wanted:
            yield Change(
                f"{table}: chunk interval {present.chunks.get(table)} -> {wanted} (chunks that exist stay as they are)",
                f"SELECT set_chunk_time_interval('{table}', INTERVAL '{wanted}');",
            )


def _compression_changes(present: Present, config: Config) -> Iterator[Change]:
    for table in HYPERTABLES:
        days = getattr(config.compression, f"{table}_after_days")
        wanted, now = _or_never(days), present.compression.get(table, _NEVER)
        if now != wanted:
            sql = f"CALL remove_columnstore_policy('{table}', if_exists => true);"
            if days != FOR_EVER:
                sql += f"\nCALL add_columnstore_policy('{table}', after => INTERVAL '{wanted}');"
            yield Change(f"{table}: compressed after {now} -> {wanted}", sql)


def _retention_changes(present: Present, retention: RetentionConfig) -> Iterator[Change]:
    for relation, days in _kept_days(retention):
        wanted, now = _or_never(days), present.retention.get(relation, _NEVER)
        if now != wanted:
            sql = f"SELECT remove_retention_policy('\"{relation}\"', if_exists => true);"
            if days != FOR_EVER:
                sql += f"\nSELECT add_retention_policy('\"{relation}\"', INTERVAL '{wanted}');"
            yield Change(f"{relation}: dropped after {now} -> {wanted}", sql)


def _kept_days(retention: RetentionConfig) -> Iterator[tuple[str, int]]:
    for table in HYPERTABLES:
        yield table, kept_days(table, retention)
    for level in AGGREGATES:
        yield level.relation, getattr(retention, level.retention_key)


def _refresh_changes(present: Present, retention: RetentionConfig) -> Iterator[Change]:
    for level in AGGREGATES:
        wanted = (level.lookback(retention), level.settled_after, level.every)
        if present.refresh.get(level.relation) != wanted:
            yield Change(
                f"{level.relation}: refreshed every {level.every}, back to {wanted[0]}", _refresh_sql(level, wanted)
            )


def _refresh_sql(level: Level, wanted: tuple[str, str, str]) -> str:
    start, end, every = wanted
    return (
        f"SELECT remove_continuous_aggregate_policy('{level.identifier}', if_exists => true);\n"
        f"SELECT add_continuous_aggregate_policy('{level.identifier}', start_offset => INTERVAL '{start}',"
        f" end_offset => INTERVAL '{end}', schedule_interval => INTERVAL '{every}');"
    )


def _or_never(days: int) -> str:
    return _NEVER if days == FOR_EVER else interval_days(days)
