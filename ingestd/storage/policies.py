"""Chunk intervals, compression, retention and refresh policies, made equal to the configuration.

TimescaleDB only. The configuration decides: policies that were changed by hand are set back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingestd.channels import ROWS
from ingestd.config.models import Config, RetentionConfig
from ingestd.storage.candles import AGGREGATES, FOR_EVER, LEVELS, OF_PACKS, interval_days, require_room
from ingestd.storage.database import Database, Row
from ingestd.storage.engine import Engine
from ingestd.storage.session_settings import SCHEMA

INDICATORS = "indicators_cache"
HYPERTABLES = (*(row.table for row in ROWS), INDICATORS)

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
    require_room(config)
    if not engine.has_hypertables:
        return []
    return list(differences(await read(db), engine, config))


async def shortened(db: Database, config: Config) -> list[tuple[str, int]]:
    """The relations for which the server would get a policy that drops chunks, or another one, and after how many days.

    For TimescaleDB's Community edition.
    """
    present = await read(db)
    return [
        (relation, days)
        for relation, days in _kept_days(config.retention)
        if days != FOR_EVER and present.retention.get(relation) != interval_days(days)
    ]


def differences(present: Present, engine: Engine, config: Config) -> Iterator[Change]:
    """The differences between the present policies and the configuration, for a server with hypertables."""
    yield from _chunk_changes(present, config)
    if engine.has_continuous_aggregates:
        yield from _age_changes(
            present.compression,
            ((table, getattr(config.compression, f"{table}_after_days")) for table in HYPERTABLES),
            "compressed",
            "CALL remove_columnstore_policy('{}', if_exists => true);",
            "CALL add_columnstore_policy('{}', after => INTERVAL '{}');",
        )
        yield from _age_changes(
            present.retention,
            _kept_days(config.retention),
            "dropped",
            "SELECT remove_retention_policy('\"{}\"', if_exists => true);",
            "SELECT add_retention_policy('\"{}\"', INTERVAL '{}');",
        )
        yield from _refresh_changes(present, config)


def kept_days(table: str, retention: RetentionConfig) -> int:
    """How long chunks of the table are kept: with rows of several timeframes, as long as the longest-kept of them."""
    if table == INDICATORS:
        kept = tuple(getattr(retention, level.retention_keys[1]) for level in LEVELS)
    elif table == "ohlcv_data":
        kept = (retention.ohlcv_data_minutes_days, retention.ohlcv_data_hours_days, retention.ohlcv_data_days_days)
    else:
        kept = (int(getattr(retention, f"{table}_days")),)
    return FOR_EVER if FOR_EVER in kept else max(kept)


async def read(db: Database) -> Present:
    """The policies of a database with hypertables."""
    # Two statements, since continuous aggregates show their materialised table's name among the dimensions.
    dimensions = await db.fetch(
        "SELECT hypertable_name AS name, time_interval::text AS interval FROM timescaledb_information.dimensions"
        " WHERE hypertable_schema = $1",
        SCHEMA,
    )
    jobs = await _jobs(db, SCHEMA)

    def of(policy: str, setting: str) -> dict[str, str]:
        return {row["name"]: row[setting] for row in jobs if row["proc_name"] == policy}

    return Present(
        chunks={row["name"]: row["interval"] for row in dimensions},
        compression=of("policy_compression", "compress_after"),
        retention=of("policy_retention", "drop_after"),
        refresh=_refreshes(jobs),
    )


async def _jobs(db: Database, schema: str) -> Sequence[Row]:
    return await db.fetch(
        "SELECT hypertable_name AS name, proc_name, schedule_interval::text AS every,"
        " (config->>'compress_after')::interval::text AS compress_after,"
        " (config->>'drop_after')::interval::text AS drop_after,"
        " (config->>'start_offset')::interval::text AS start_offset,"
        " (config->>'end_offset')::interval::text AS end_offset"
        " FROM timescaledb_information.jobs WHERE hypertable_schema = $1",
        schema,
    )


def _refreshes(jobs: Sequence[Row]) -> dict[str, tuple[str, str, str]]:
    return {
        row["name"]: (row["start_offset"], row["end_offset"], row["every"])
        for row in jobs
        if row["proc_name"] == "policy_refresh_continuous_aggregate"
    }


async def pack_changes(db: Database, engine: Engine, config: Config, pack: str) -> list[Change]:
    """The differences in how the server refreshes the aggregates of a pack that is applied. Changes nothing."""
    own = [aggregate for aggregate in OF_PACKS if aggregate.pack == pack]
    if not (own and engine.has_continuous_aggregates):
        return []
    present = _refreshes(await _jobs(db, pack))
    return [
        change
        for aggregate in own
        for change in _refresh_change(
            f"{pack}.{aggregate.relation}", present.get(aggregate.relation), aggregate.refresh(config)
        )
    ]


def _chunk_changes(present: Present, config: Config) -> Iterator[Change]:
    for table in HYPERTABLES:
        wanted = interval_days(getattr(config.chunks, f"{table}_days"))
        if present.chunks.get(table) != wanted:
            yield Change(
                f"{table}: chunk interval {present.chunks.get(table)} -> {wanted} (chunks that exist stay as they are)",
                f"SELECT set_chunk_time_interval('{table}', INTERVAL '{wanted}');",
            )


def _age_changes(
    present: Mapping[str, str], wanted: Iterable[tuple[str, int]], done: str, remove: str, add: str
) -> Iterator[Change]:
    """For a policy about chunks of so many days; `remove` and `add` are its SQL, for the relation and the interval."""
    for relation, days in wanted:
        after, now = _NEVER if days == FOR_EVER else interval_days(days), present.get(relation, _NEVER)
        if now != after:
            sql = remove.format(relation)
            if days != FOR_EVER:
                sql += "\n" + add.format(relation, after)
            yield Change(f"{relation}: {done} after {now} -> {after}", sql)


def _kept_days(retention: RetentionConfig) -> Iterator[tuple[str, int]]:
    for table in HYPERTABLES:
        yield table, kept_days(table, retention)
    for level in AGGREGATES:
        yield level.relation, getattr(retention, level.retention_keys[1])


def _refresh_changes(present: Present, config: Config) -> Iterator[Change]:
    for level in AGGREGATES:
        yield from _refresh_change(level.identifier, present.refresh.get(level.relation), level.refresh(config))


def _refresh_change(
    relation: str, present: tuple[str, str, str] | None, wanted: tuple[str, str, str]
) -> Iterator[Change]:
    """For a relation as SQL names it."""
    if present == wanted:
        return
    start, end, every = wanted
    yield Change(
        f"{relation.strip(chr(34))}: refreshed every {every}, back to {start}, up to {end} ago",
        f"SELECT remove_continuous_aggregate_policy('{relation}', if_exists => true);\n"
        f"SELECT add_continuous_aggregate_policy('{relation}', start_offset => INTERVAL '{start}',"
        f" end_offset => INTERVAL '{end}', schedule_interval => INTERVAL '{every}');",
    )
