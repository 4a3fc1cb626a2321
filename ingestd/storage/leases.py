"""The lease that allows one daemon to capture a shard: rows of `ingest_leases`, and the fence that every flush checks.

It uses no session lock and no transaction of several statements: it works through a pooler in transaction mode, and a
holder that freezes blocks nobody. All times are of the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingestd.clock import from_datetime, now_us
from ingestd.errors import Fenced
from ingestd.storage.database import Database, Row
from ingestd.storage.lease_terms import Term, Terms

_TERMS_KEPT = 1000


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


class Title:
    """What a writer knows of its lease, which decides what it may store."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._terms: Terms | None = None

    @property
    def known(self) -> Terms | None:
        """The terms as last read; None: they must be read."""
        return self._terms

    async def terms(self, database: Database) -> Terms:
        """The terms, read now if they are not known."""
        if self._terms is None:
            self._terms = await terms(database, self._tenant)
        return self._terms

    def fence(self) -> Fence:
        """The fence of the next flush."""
        return Fence(self._tenant.lease, self._terms.epoch if self._terms is not None else 0)

    def forget(self) -> None:
        """Forget the terms: the fence made a flush fail."""
        self._terms = None


async def terms(database: Database, tenant: Tenant) -> Terms:
    """Every stored term of the lease, and how far this host's clock is off the server's."""
    asked_at = now_us()
    rows = await database.fetch(
        "SELECT epoch, holder, holder = $2 AS mine, taken_at, renewed_at, expires_at, clock_timestamp() AS now "
        "FROM ingest_leases WHERE lease = $1 ORDER BY epoch",
        tenant.lease,
        tenant.holder,
    )
    if not rows:
        return Terms()
    half_us = (now_us() - asked_at + 1) // 2
    now = from_datetime(rows[0]["now"])
    return Terms(tuple(_term(row) for row in rows), now, asked_at + half_us - now, half_us)


async def newest(database: Database, tenant: Tenant) -> tuple[Term, bool] | None:
    """The newest term, and whether it has run out; None: the lease was never held."""
    row = await database.fetchrow(
        "SELECT epoch, holder, holder = $2 AS mine, taken_at, renewed_at, expires_at, "
        "expires_at <= clock_timestamp() AS over "
        "FROM ingest_leases WHERE lease = $1 ORDER BY epoch DESC LIMIT 1",
        tenant.lease,
        tenant.holder,
    )
    return None if row is None else (_term(row), bool(row["over"]))


async def take(database: Database, tenant: Tenant, after: Term | None, ttl_s: float) -> Term | None:
    """Begin the term after `after`, if that has run out or is ours. None: it lives, or another was quicker.

    The row is read again under its lock, so a holder that renews at this moment keeps the lease.
    """
    row = await database.fetchrow(
        "WITH newest AS MATERIALIZED ("
        " SELECT epoch, holder, expires_at FROM ingest_leases WHERE lease = $1 ORDER BY epoch DESC LIMIT 1 FOR UPDATE) "
        "INSERT INTO ingest_leases (lease, epoch, holder, taken_at, renewed_at, expires_at) "
        "SELECT $1, $3 + 1, $2, clock_timestamp(), clock_timestamp(), clock_timestamp() + make_interval(secs => $4) "
        "WHERE coalesce((SELECT epoch FROM newest), 0) = $3 "
        "AND NOT EXISTS (SELECT FROM newest WHERE holder <> $2 AND expires_at > clock_timestamp()) "
        "ON CONFLICT DO NOTHING RETURNING epoch, holder, true AS mine, taken_at, renewed_at, expires_at",
        tenant.lease,
        tenant.holder,
        0 if after is None else after.epoch,
        ttl_s,
    )
    if row is None:
        return None
    await database.execute(
        "DELETE FROM ingest_leases WHERE lease = $1 AND epoch <= $2", tenant.lease, int(row["epoch"]) - _TERMS_KEPT
    )
    return _term(row)


async def renew(database: Database, lease: str, epoch: int, ttl_s: float) -> bool:
    """Extend our term. False: it is no longer the newest."""
    return (
        await database.execute(
            "UPDATE ingest_leases SET renewed_at = clock_timestamp(), "
            "expires_at = clock_timestamp() + make_interval(secs => $3) WHERE lease = $1 AND epoch = $2 "
            "AND NOT EXISTS (SELECT FROM ingest_leases WHERE lease = $1 AND epoch > $2)",
            lease,
            epoch,
            ttl_s,
        )
        > 0
    )


async def release(database: Database, lease: str, epoch: int) -> None:
    """End our term now, so that a standby need not wait until it runs out (it sees both times equal)."""
    await database.execute(
        "UPDATE ingest_leases SET renewed_at = now(), expires_at = now() WHERE lease = $1 AND epoch = $2",
        lease,
        epoch,
    )


async def require(database: Database, fence: Fence) -> None:
    """Raise Fenced if there is a newer term than the fence names."""
    row = await database.fetchrow(
        "SELECT epoch, holder FROM ingest_leases WHERE lease = $1 AND epoch > $2 ORDER BY epoch DESC LIMIT 1",
        fence.lease,
        fence.epoch,
    )
    if row is not None:
        raise Fenced(f"the lease {fence.lease} is in term {row['epoch']}, held by {row['holder']}")


def _term(row: Row) -> Term:
    return Term(
        epoch=int(row["epoch"]),
        holder=str(row["holder"]),
        mine=bool(row["mine"]),
        taken_at=from_datetime(row["taken_at"]),
        renewed_at=from_datetime(row["renewed_at"]),
        expires_at=from_datetime(row["expires_at"]),
    )
