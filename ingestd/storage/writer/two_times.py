"""Finds trades that are stored already with another time.

Some venues report one time of a trade on the socket and another over REST, rounded or from another clock. Two rows of
`trades` with different times are different rows, so the trade would be stored twice. A trade of these venues is
therefore known by its id and a time within a second, whether it came over the socket or REST first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from ingestd.clock import to_datetime
from ingestd.records import Record, Trade
from ingestd.storage.database import Database
from ingestd.venues.all import FACTS

EXCHANGES_WITH_TWO_TIMES = frozenset(exchange for exchange, facts in FACTS.items() if facts.trades.two_times)

_APART_US = 1_000_000  # the two times of one trade are at most this far apart
# Held until the commit: else of two programs that store one trade at once, each with another time, neither would see
# the other's row.
_LOCK = "SELECT pg_advisory_xact_lock(7236270195846171)"
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


async def already_stored(database: Database, records: Sequence[Record]) -> set[int]:
    """The indexes of trades that are stored with their other time, or are among the records with both times.

    Call it before the COPY and in the same transaction.
    """
    given = {
        index: record
        for index, record in enumerate(records)
        if isinstance(record, Trade) and record.exchange in EXCHANGES_WITH_TWO_TIMES
    }
    if not given:
        return set()
    await database.script(_LOCK)
    times = [record.time for record in given.values()]
    columns = zip(
        *(
            (index, one.exchange, database.names.name(one.exchange, one.symbol), one.trade_id, to_datetime(one.time))
            for index, one in given.items()
        ),
        strict=True,
    )
    span = to_datetime(min(times) - _APART_US), to_datetime(max(times) + _APART_US)
    found = await database.fetch(_STORED, *map(list, columns), timedelta(microseconds=_APART_US), *span)
    stored = {row["row"] for row in found}
    return stored | _repeated({index: record for index, record in given.items() if index not in stored})


def _repeated(given: Mapping[int, Trade]) -> set[int]:
    """The indexes of trades of which `given` has an earlier record, with another time within a second."""
    first: dict[tuple[str, str, str], int] = {}
    repeated = set()
    for index, record in given.items():
        before = first.setdefault((record.exchange, record.symbol, record.trade_id), record.time)
        if record.time != before and abs(record.time - before) <= _APART_US:
            repeated.add(index)
    return repeated
