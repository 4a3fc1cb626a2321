"""The lease that allows one daemon to capture a shard: rows of `ingest_leases`, and the fence that every flush checks.

It uses no session lock and no transaction of several statements: it works through a pooler in transaction mode, and a
holder that freezes blocks nobody. All times are of the database's clock.

The terms also decide whose records are stored. Trades, open interest and funding rates have a key:
stored by two daemons they are still one row. Ticks and books have none, and a candle replaces the stored one; of these
only the holder of the lease stores what it received.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import structlog

from ingestd.clock import from_datetime, now_us
from ingestd.errors import DatabaseError, Fenced
from ingestd.records import BookSnapshot, Candle, Record, Tick
from ingestd.storage.database import Database, Row

log = structlog.get_logger()

_TERMS_KEPT = 1000
_TERMS = (
    "SELECT epoch, holder, holder = $2 AS mine, taken_at, renewed_at, expires_at, clock_timestamp() AS now "
    "FROM ingest_leases WHERE lease = $1"
)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 31 * 86_400}


@dataclass(frozen=True, slots=True)
class Fence:
    """Makes a flush fail whose writer does not know the newest term."""

    lease: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """A daemon that asks for a lease. `holder` identifies its state directory."""

    lease: str
    holder: str


@dataclass(frozen=True, slots=True)
class Term:
    """The time of one holder, in microseconds since the epoch; `mine`: this daemon held it."""

    epoch: int
    holder: str
    mine: bool
    taken_at: int
    renewed_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Terms:
    """Every term of a lease, oldest first, as of `now`. `ahead_us`: how far this host's clock is ahead of the
    database's, within `uncertain_us`."""

    terms: Sequence[Term] = ()
    now: int = 0
    ahead_us: int = 0
    uncertain_us: int = 0

    @property
    def epoch(self) -> int:
        """The epoch of the newest term; 0: the lease was never held."""
        return self.terms[-1].epoch if self.terms else 0

    @property
    def name_others(self) -> bool:
        """Whether another daemon ever held the lease."""
        return any(not term.mine for term in self.terms)

    def belongs_to_another(self, record: Record) -> bool:
        """Whether another daemon held the lease when this record came, and stores it: ours would be a duplicate."""
        if not isinstance(record, (Tick, BookSnapshot, Candle)):
            return False
        at, unsure = record.received_at - self.ahead_us, self.uncertain_us
        for term, end in self._others():
            if term.taken_at + unsure <= at < end - unsure:  # only if certain: stored twice is better than not at all
                return True
            # A candle that was open when the term began is stored by the new holder, who knows its final state.
            if isinstance(record, Candle) and at + unsure < term.taken_at < _closes_at(record):
                return True
        return False

    def _others(self) -> Iterator[tuple[Term, float]]:
        """The terms of other daemons, each with its end: taken over, or run out.

        What was received after a term ran out has no certain owner.
        """
        for term, following in zip_longest(self.terms, self.terms[1:]):
            if term.mine:
                continue
            if following is not None:
                yield term, min(following.taken_at, term.expires_at)
            else:
                yield term, float("inf") if term.expires_at > self.now else term.expires_at


def _closes_at(candle: Candle) -> int:
    """When the candle's period ends; with an unknown timeframe it counts as closed."""
    count, unit = candle.timeframe[:-1], candle.timeframe[-1:]
    return candle.time + (int(count) * _UNIT_S.get(unit, 0) * 1_000_000 if count.isdecimal() else 0)


@dataclass(slots=True)
class Title:
    """What a writer knows of its lease, which decides what it may store."""

    tenant: Tenant
    known: Terms | None = None  # as last read; None: they must be read

    async def terms(self, database: Database) -> Terms:
        """The terms, read now if they are not known."""
        if self.known is None:
            self.known = await terms(database, self.tenant)
        return self.known

    def fence(self) -> Fence:
        """The fence of the next flush."""
        return Fence(self.tenant.lease, self.known.epoch if self.known is not None else 0)

    def forget(self) -> None:
        """Forget the terms, so that they are read again."""
        self.known = None


async def terms(database: Database, tenant: Tenant) -> Terms:
    """Every stored term of the lease, and how far this host's clock is off the server's."""
    asked_at = now_us()
    rows = await database.fetch(f"{_TERMS} ORDER BY epoch", tenant.lease, tenant.holder)
    if not rows:
        return Terms()
    half_us = (now_us() - asked_at + 1) // 2
    now = from_datetime(rows[0]["now"])
    return Terms(tuple(_term(row) for row in rows), now, asked_at + half_us - now, half_us)


async def newest(database: Database, tenant: Tenant) -> tuple[Term, bool] | None:
    """The newest term, and whether it has run out; None: the lease was never held."""
    row = await database.fetchrow(f"{_TERMS} ORDER BY epoch DESC LIMIT 1", tenant.lease, tenant.holder)
    return None if row is None else (_term(row), row["expires_at"] <= row["now"])


async def take(database: Database, tenant: Tenant, after: Term | None, ttl_s: float) -> Term | None:
    """Begin the term after `after`, if that has run out or is ours. None: it lasts, or another daemon was quicker.

    The row is read again under its lock, so a holder that renews at this moment keeps the lease.
    """
    sql = (
        "WITH newest AS MATERIALIZED ("
        " SELECT epoch, holder, expires_at FROM ingest_leases WHERE lease = $1 ORDER BY epoch DESC LIMIT 1 FOR UPDATE) "
        "INSERT INTO ingest_leases (lease, epoch, holder, taken_at, renewed_at, expires_at) "
        "SELECT $1, $3 + 1, $2, clock_timestamp(), clock_timestamp(), clock_timestamp() + make_interval(secs => $4) "
        "WHERE coalesce((SELECT epoch FROM newest), 0) = $3 "
        "AND NOT EXISTS (SELECT FROM newest WHERE holder <> $2 AND expires_at > clock_timestamp()) "
        "ON CONFLICT DO NOTHING RETURNING epoch, holder, true AS mine, taken_at, renewed_at, expires_at"
    )
    row = await database.fetchrow(sql, tenant.lease, tenant.holder, 0 if after is None else after.epoch, ttl_s)
    if row is None:
        return None
    oldest = int(row["epoch"]) - _TERMS_KEPT
    await database.execute("DELETE FROM ingest_leases WHERE lease = $1 AND epoch <= $2", tenant.lease, oldest)
    return _term(row)


async def renew(database: Database, lease: str, epoch: int, ttl_s: float) -> bool:
    """Extend our term. False: it is no longer the newest."""
    sql = (
        "UPDATE ingest_leases SET renewed_at = clock_timestamp(), "
        "expires_at = clock_timestamp() + make_interval(secs => $3) WHERE lease = $1 AND epoch = $2 "
        "AND NOT EXISTS (SELECT FROM ingest_leases WHERE lease = $1 AND epoch > $2)"
    )
    return await database.execute(sql, lease, epoch, ttl_s) > 0


async def release(database: Database, lease: str, epoch: int) -> None:
    """End our term now, so that a standby need not wait. It tells a release by equal `renewed_at` and `expires_at`."""
    sql = "UPDATE ingest_leases SET renewed_at = now(), expires_at = now() WHERE lease = $1 AND epoch = $2"
    await database.execute(sql, lease, epoch)


async def require(database: Database, fence: Fence) -> None:
    """Raise Fenced if there is a newer term than the fence names."""
    sql = "SELECT epoch, holder FROM ingest_leases WHERE lease = $1 AND epoch > $2 ORDER BY epoch DESC LIMIT 1"
    row = await database.fetchrow(sql, fence.lease, fence.epoch)
    if row is not None:
        raise Fenced(f"the lease {fence.lease} is in term {row['epoch']}, held by {row['holder']}")


async def disconnect_stalled(database: Database, stalled_after_s: float) -> None:
    """End sessions of writers that froze in the middle of a transaction, since their locks block others: sessions that
    hold position rows, wait for their client, and began their transaction more than `stalled_after_s` ago.

    Needs the same database user as those sessions; without that right it logs a warning and changes nothing.
    """
    try:
        rows = await database.fetch(
            "SELECT pid, application_name, pg_terminate_backend(pid) AS ended "
            "FROM (SELECT DISTINCT pid, application_name FROM pg_locks JOIN pg_stat_activity AS activity USING (pid) "
            "WHERE relation = 'ingest_positions'::regclass AND mode = 'RowExclusiveLock' AND granted "
            "AND pid <> pg_backend_pid() AND wait_event = 'ClientRead' "
            "AND (application_name LIKE 'ingestd %' OR application_name = current_setting('application_name')) "
            "AND xact_start < now() - make_interval(secs => $1)) AS stalled",
            stalled_after_s,
        )
    except DatabaseError as error:
        log.warning("stalled_writer_not_disconnected", error=str(error))
        return
    for row in rows:
        log.warning("stalled_writer_disconnected", server_process=row["pid"], session=row["application_name"])


def _term(row: Row) -> Term:
    times = (from_datetime(row[name]) for name in ("taken_at", "renewed_at", "expires_at"))
    return Term(row["epoch"], row["holder"], row["mine"], *times)
