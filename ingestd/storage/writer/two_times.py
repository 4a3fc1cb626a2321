"""Trades of venues that give one trade two times: a trade that is stored with its other time is not stored again.

Before the COPY, the database is asked for trades with the same id and a near time, for rows of these venues only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from ingestd.clock import to_datetime
from ingestd.records import Trade
from ingestd.storage.database import Database
from ingestd.storage.writer.rows import Rows
from ingestd.storage.writer.trade_times import APART_US, TWO_TIMES

# Held until the commit: else two programs that store one trade with its two times would not see each other's row.
_LOCK = "SELECT pg_advisory_xact_lock(7236270195846171)"
_APART = timedelta(microseconds=APART_US)
_STORED = """
SELECT given.row FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    AS given (row, exchange, symbol, trade_id, time)
WHERE EXISTS (
    SELECT FROM trades AS t
    WHERE t.exchange = given.exchange AND t.symbol = given.symbol AND t.trade_id = given.trade_id
      AND t.time BETWEEN given.time - $6::interval AND given.time + $6::interval AND t.time <> given.time
      AND t.time BETWEEN $7::timestamptz AND $8::timestamptz
)
"""


async def leave_out_stored(database: Database, rows: Rows) -> None:
    """Remove rows that are stored with their other time, or come twice. In the transaction that stores the rest."""
    given = {
        index: record
        for index, record in enumerate(rows.records)
        if isinstance(record, Trade) and record.exchange in TWO_TIMES
    }
    if not given:
        return
    await database.script(_LOCK)
    times = [record.time for record in given.values()]
    found = await database.fetch(
        _STORED,
        list(given),
        [record.exchange for record in given.values()],
        [record.symbol for record in given.values()],
        [record.trade_id for record in given.values()],
        [to_datetime(time) for time in times],
        _APART,
        to_datetime(min(times) - APART_US),
        to_datetime(max(times) + APART_US),
    )
    stored = {row["row"] for row in found}
    rows.leave_out(stored | _repeated({index: record for index, record in given.items() if index not in stored}))


def _repeated(given: Mapping[int, Trade]) -> set[int]:
    """Rows after another row with the same id and a near, but different, time."""
    first: dict[tuple[str, str, str], int] = {}
    repeated = set()
    for index, record in given.items():
        before = first.setdefault((record.exchange, record.symbol, record.trade_id), record.time)
        if record.time != before and abs(record.time - before) <= APART_US:
            repeated.add(index)
    return repeated
