"""Rows that came late: by a sample of the pages that were written last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from ingestd.config.models import Config
from ingestd.storage.candles import AGGREGATES
from ingestd.storage.database import Database
from ingestd.storage.doctor.findings import Finding, age
from ingestd.storage.engine import Engine
from ingestd.storage.session_settings import qualified

SAMPLED_BYTES = 8 * 2**20  # of a table or chunk: a thousand pages

_LATE = timedelta(minutes=1)
_FEW_ROWS = 100  # of which a share says nothing
_SHARE = 0.01
_TABLES = ("trades", "market_ticks")  # what candles are made of


@dataclass(frozen=True, slots=True)
class Sample:
    """Of the sampled rows of a table, those received more than a minute after their time, and the longest delay."""

    table: str
    rows: int
    late: int
    longest: timedelta | None


@dataclass(frozen=True, slots=True)
class LateFacts:
    samples: tuple[Sample, ...]


async def read(db: Database, engine: Engine) -> LateFacts:
    """Sample each table: on TimescaleDB, its newest chunk that is not compressed."""
    samples = []
    for table in _TABLES:
        where = await db.fetchval(_NEWEST, table) if engine.has_hypertables else qualified(table)
        if where is not None:
            samples.append(await _sample(db, table, where))
    return LateFacts(tuple(samples))


async def _sample(db: Database, table: str, relation: str) -> Sample:
    row = await db.fetchrow(
        "SELECT count(*) AS rows, count(*) FILTER (WHERE received_at - time > $1::interval) AS late,"  # noqa: S608
        f" max(received_at - time) AS longest FROM {relation} TABLESAMPLE SYSTEM"  # our own names, and the server's
        f" (least(100, 100.0 * {SAMPLED_BYTES} / greatest(1, pg_relation_size('{relation}'))))",
        _LATE,
    )
    assert row is not None
    return Sample(table, **row)


def judge(facts: LateFacts, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # the form of every check
    """Find tables of which many rows come late: their candles change after they were read."""
    settled = {level.source: level.settled_after for level in reversed(AGGREGATES)}
    for sample in facts.samples:
        if sample.rows < _FEW_ROWS or sample.late <= _SHARE * sample.rows or sample.longest is None:
            continue
        message = (
            f"{sample.late / sample.rows:.0%} of {sample.rows:,} sampled rows came more than a minute late, one by "
            f"{age(sample.longest)}: a backfill, a slow way to the venue, or a wrong clock. Candles count as settled "
            f"after {settled[sample.table]}, and change when such a row comes"
        )
        remedy = (
            "SELECT exchange, count(*), max(received_at - time) AS longest, max(received_at) AS newest"  # noqa: S608 # shown
            f" FROM {qualified(sample.table)} WHERE time > now() - INTERVAL '1 day'"
            " AND received_at - time > INTERVAL '1 minute' GROUP BY exchange ORDER BY 2 DESC;"
            "\n-- which says whose; then\ningestd gaps -c FILE --since 1d\ningestd check -c FILE --connect"
        )
        yield Finding("warning", qualified(sample.table), message, remedy)


_NEWEST = """
SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
WHERE hypertable_schema = 'public' AND hypertable_name = $1::text AND NOT coalesce(is_compressed, false)
  AND range_start <= now()
ORDER BY range_start DESC LIMIT 1
"""
