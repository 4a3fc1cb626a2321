"""Indexes that nobody reads, and indexes that are not valid. Each index costs every insert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingestd.config.models import Config
from ingestd.storage.database import Database
from ingestd.storage.doctor.description import SCHEMAS
from ingestd.storage.doctor.findings import Finding, age, size
from ingestd.storage.engine import Engine

_WATCHED = timedelta(days=7)  # at least so long, before an index counts as unused
_LARGE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Index:
    """One index of a table, with those of its chunks. `name` and `table` as SQL names them. `needed`: unique."""

    name: str
    table: str
    bytes: int
    scans: int
    needed: bool
    valid: bool = True


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """`counted_since`: the server has counted scans since then, or for longer."""

    now: datetime
    counted_since: datetime
    indexes: tuple[Index, ...]


async def read(db: Database, engine: Engine) -> IndexFacts:
    """The indexes of our schemas. A chunk's index belongs to the index of its hypertable with the same definition."""
    row = await db.fetchrow(
        "SELECT clock_timestamp() AS now, coalesce(stats_reset, pg_postmaster_start_time()) AS since"
        " FROM pg_stat_database WHERE datname = current_database()"
    )
    assert row is not None
    rows = await db.fetch(_WITH_CHUNKS if engine.has_hypertables else _OF_TABLES, list(SCHEMAS))
    return IndexFacts(row["now"], row["since"], tuple(Index(**index) for index in rows))


def judge(facts: IndexFacts, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # the form of every check
    """Find what to drop, and what to build again."""
    watched = facts.now - facts.counted_since
    for index in facts.indexes:
        if not index.valid:
            message = "it is not valid: it costs each insert and serves no query (its CREATE INDEX was interrupted)"
            yield Finding("error", index.name, message, f"DROP INDEX {index.name};  -- and create it again")
        elif watched >= _WATCHED and not (index.needed or index.scans) and index.bytes >= _LARGE_BYTES:
            unused = f"no query has used it in {age(watched)}"
            message = f"{unused}; it is {size(index.bytes)} of {index.table}, and costs each insert"
            yield Finding("warning", index.name, message, f"DROP INDEX {index.name};")


_SELECT = """
SELECT format('%I.%I', nspname, own.relname) AS name, format('%I.%I', nspname, relation.relname) AS table,
       pg_relation_size(own.oid) + coalesce(chunks.bytes, 0)::bigint AS bytes,
       coalesce(stat.idx_scan, 0) + coalesce(chunks.scans, 0)::bigint AS scans,
       indisunique OR indisreplident OR EXISTS (SELECT FROM pg_constraint WHERE conindid = own.oid) AS needed,
       indisvalid AS valid
FROM pg_index
JOIN pg_class AS own ON own.oid = indexrelid
JOIN pg_class AS relation ON relation.oid = indrelid
JOIN pg_namespace ON pg_namespace.oid = relation.relnamespace
LEFT JOIN pg_stat_all_indexes AS stat ON stat.indexrelid = own.oid
{join}
WHERE nspname = ANY ($1::text[])
ORDER BY 1
"""
_OF_TABLES = _SELECT.format(join="CROSS JOIN (SELECT 0 AS bytes, 0 AS scans) AS chunks")
_WITH_CHUNKS = _SELECT.format(
    join="""
LEFT JOIN (
    SELECT hypertable_schema, hypertable_name, split_part(pg_get_indexdef(part.indexrelid), ' USING ', 2) AS definition,
           sum(pg_relation_size(part.indexrelid)) AS bytes, sum(idx_scan) AS scans
    FROM timescaledb_information.chunks
    JOIN pg_index AS part ON part.indrelid = format('%I.%I', chunk_schema, chunk_name)::regclass
    JOIN pg_stat_all_indexes AS of_part ON of_part.indexrelid = part.indexrelid
    GROUP BY 1, 2, 3
) AS chunks ON (hypertable_schema, hypertable_name) = (nspname, relation.relname)
           AND definition = split_part(pg_get_indexdef(pg_index.indexrelid), ' USING ', 2)
"""
)
