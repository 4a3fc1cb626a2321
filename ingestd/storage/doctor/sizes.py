"""Sizes: of chunks, of what compression saves, and of the database in the days to come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ingestd.config.models import Config
from ingestd.storage.database import Database
from ingestd.storage.doctor.findings import MIGRATE, Finding, age, size
from ingestd.storage.doctor.jobs import COMPRESSION
from ingestd.storage.policies import HYPERTABLES

_DAY = timedelta(days=1)
_MANY_CHUNKS = 1500  # of one table: planning a query without a bound on time then takes tens of milliseconds
_POOR_RATIO = 0.5  # compressed to uncompressed
_WORTH_BYTES = 64 * 2**20
_OVERDUE = timedelta(days=2)  # after a chunk should have been compressed
_MANY_PARTIAL = 5


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a table or aggregate. `bytes` in all, of them `index_bytes`.

    `before_bytes`, `after_bytes`: of a compressed chunk, its size before and after. `partial`: rows came after it was
    compressed. `compress_after`: the policy of its table; None: it has none.
    """

    table: str
    name: str
    start: datetime
    end: datetime
    bytes: int
    index_bytes: int = 0
    compressed: bool = False
    partial: bool = False
    before_bytes: int | None = None
    after_bytes: int | None = None
    compress_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """`shared_buffers_bytes`: the server's own cache."""

    now: datetime
    shared_buffers_bytes: int
    chunks: tuple[Chunk, ...]

    def by_table(self) -> Mapping[str, Sequence[Chunk]]:
        """The chunks of each table, oldest first."""
        tables: defaultdict[str, list[Chunk]] = defaultdict(list)
        for chunk in sorted(self.chunks, key=lambda chunk: chunk.start):
            tables[chunk.table].append(chunk)
        return tables


async def read(db: Database, *, has_columnstore: bool) -> ChunkFacts:
    """The chunks of all hypertables and aggregates. `has_columnstore`: the server can compress."""
    row = await db.fetchrow(
        "SELECT clock_timestamp() AS now, pg_size_bytes(current_setting('shared_buffers')) AS buffers"
    )
    assert row is not None
    sql = _CHUNKS.format(compressed=_COMPRESSED if has_columnstore else _NOT_COMPRESSED, policy=COMPRESSION)
    return ChunkFacts(row["now"], row["buffers"], tuple(Chunk(**chunk) for chunk in await db.fetch(sql)))


def judge_chunks(facts: ChunkFacts, config: Config) -> Iterator[Finding]:
    """Find tables with too many chunks, and chunks whose indexes do not fit in the server's cache."""
    active: dict[str, int] = {}
    for table, chunks in facts.by_table().items():
        if len(chunks) > _MANY_CHUNKS:
            message = f"it has {len(chunks):,} chunks: queries without a bound on time take long to plan"
            yield Finding("warning", table, message, _other_interval(table, config, 4))
        active[table] = max((chunk.index_bytes for chunk in chunks[-3:] if not chunk.compressed), default=0)
    total = sum(active.values())
    if total > facts.shared_buffers_bytes:
        largest = max(active, key=lambda table: active[table])
        message = (
            f"the indexes of the newest chunks are {size(total)}, {size(active[largest])} of them in {largest}, and "
            f"shared_buffers is {size(facts.shared_buffers_bytes)}: inserts wait for the disk"
        )
        wanted = f"{max(1, round(total * 2 / 2**20))}MB"
        remedy = f"ALTER SYSTEM SET shared_buffers = '{wanted}';  -- then restart the server; or shorter chunks:\n"
        yield Finding("warning", "chunks", message, remedy + _other_interval(largest, config, 0.5))


def judge_compression(facts: ChunkFacts, config: Config) -> Iterator[Finding]:
    """Find what compression saves too little of, chunks that should be compressed, and late rows in compressed ones."""
    for table, chunks in facts.by_table().items():
        done = [chunk for chunk in chunks if chunk.before_bytes and chunk.after_bytes is not None]
        before = sum(chunk.before_bytes or 0 for chunk in done)
        after = sum(chunk.after_bytes or 0 for chunk in done)
        if before >= _WORTH_BYTES and after > _POOR_RATIO * before:
            message = f"compression leaves {after / before:.0%} of {size(before)}: too few rows a market in each chunk"
            yield Finding("warning", table, message, _other_interval(table, config, 2))
        yield from _overdue(table, chunks, facts.now)
        partial = [chunk.name for chunk in chunks if chunk.partial]
        if len(partial) > _MANY_PARTIAL:
            message = f"rows came late into {len(partial)} compressed chunks, which makes storing them slow"
            remedy = f"CALL convert_to_columnstore('{partial[0]}', recompress => true);  -- and the others"
            own = table.removeprefix("public.")
            if own in HYPERTABLES:
                days = getattr(config.compression, f"{own}_after_days")
                remedy += f"\n-- if it goes on: [compression] {own}_after_days above {days}, then\n{MIGRATE}"
            yield Finding("warning", table, message, remedy)


def _overdue(table: str, chunks: Iterable[Chunk], now: datetime) -> Iterator[Finding]:
    waiting = [
        chunk
        for chunk in chunks
        if chunk.compress_after is not None
        and not chunk.compressed
        and now - chunk.end > chunk.compress_after + _OVERDUE
    ]
    if waiting:
        oldest = waiting[0]
        message = (
            f"{len(waiting)} of its chunks should be compressed, with {size(sum(chunk.bytes for chunk in waiting))}; "
            f"the oldest ended {age(now - oldest.end)} ago"
        )
        remedy = f"CALL convert_to_columnstore('{oldest.name}');  -- and the others, or CALL run_job of the policy"
        yield Finding("warning", table, message, remedy)


def _other_interval(table: str, config: Config, factor: float) -> str:
    """How to give new chunks another length: by the configuration, or for a table of others by SQL."""
    own = table.removeprefix("public.")
    if own not in HYPERTABLES:
        return f"SELECT set_chunk_time_interval('{table}', INTERVAL '…');"
    days = getattr(config.chunks, f"{own}_days")
    wanted = max(1, round(days * factor))
    if wanted == days:
        return f"-- the chunks of {own} are as short as they can be: {days} day"
    return f"-- [chunks] {own}_days = {wanted} in FILE, then\n{MIGRATE}"


# A materialised table has the name of its aggregate here.
_CHUNKS = """
WITH tables AS (
    SELECT hypertable_schema AS schema, hypertable_name AS name, hypertable_schema AS shown_schema,
           hypertable_name AS shown_name
    FROM timescaledb_information.hypertables
    UNION ALL
    SELECT materialization_hypertable_schema, materialization_hypertable_name, view_schema, view_name
    FROM timescaledb_information.continuous_aggregates
), sized AS MATERIALIZED (
    SELECT tables.*, sizes.chunk_schema, sizes.chunk_name, total_bytes, index_bytes
    FROM tables, LATERAL chunks_detailed_size(format('%I.%I', tables.schema, tables.name)::regclass) AS sizes
), compressed AS MATERIALIZED (
    {compressed}
), policy AS (
    SELECT hypertable_schema, hypertable_name, min((config->>'compress_after')::interval) AS compress_after
    FROM timescaledb_information.jobs WHERE proc_name = '{policy}' GROUP BY 1, 2
)
SELECT format('%s.%s', shown_schema, shown_name) AS table, format('%I.%I', chunk_schema, chunk_name) AS name,
       range_start AS start, range_end AS end, coalesce(total_bytes, 0)::bigint AS bytes,
       coalesce(index_bytes, 0)::bigint AS index_bytes, coalesce(is_compressed, false) AS compressed,
       coalesce(status & 8 = 8, false) AS partial, before_bytes, after_bytes, compress_after
FROM sized
JOIN timescaledb_information.chunks USING (chunk_schema, chunk_name)
LEFT JOIN compressed USING (chunk_schema, chunk_name)
LEFT JOIN _timescaledb_catalog.chunk AS stored ON (schema_name, table_name) = (chunk_schema, chunk_name)
LEFT JOIN policy ON (policy.hypertable_schema, policy.hypertable_name) = (shown_schema, shown_name)
WHERE range_start IS NOT NULL
ORDER BY range_start
"""
_COMPRESSED = """
    SELECT stats.chunk_schema, stats.chunk_name, before_compression_total_bytes AS before_bytes,
           after_compression_total_bytes AS after_bytes
    FROM tables, LATERAL chunk_compression_stats(format('%I.%I', tables.schema, tables.name)::regclass) AS stats
"""
_NOT_COMPRESSED = """
    SELECT NULL::name AS chunk_schema, NULL::name AS chunk_name, NULL::bigint AS before_bytes,
           NULL::bigint AS after_bytes
"""
