"""The lease's statements on real servers: one holder at a time, by the server's clock, without a lock that stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingestd.config.models import InstanceConfig
from ingestd.errors import ConnectionLost, DatabaseError, Fenced, LeaseLost
from ingestd.ops.metrics import Metrics
from ingestd.standby.leadership import Leadership
from ingestd.storage import leases
from ingestd.storage.database import Database
from ingestd.storage.leases import Fence, Tenant, Term
from tests.support.database_doubles import MovableAccess
from tests.support.postgres import DatabaseForTest, default_config

pytestmark = pytest.mark.one_server  # no statement here knows of a hypertable

NOWHERE = "postgresql://postgres@127.0.0.1:1/nowhere"
A, B = Tenant("ingestd-1", "host-a"), Tenant("ingestd-1", "host-b")


@pytest.fixture
async def other(database: DatabaseForTest) -> AsyncIterator[Database]:
    connection = await database.connect()
    yield connection
    await connection.close()


async def taken(db: Database, tenant: Tenant, after: Term | None = None, ttl_s: float = 60) -> Term:
    term = await leases.take(db, tenant, after, ttl_s)
    assert term is not None
    return term


async def run_out(db: Database) -> None:
    await db.execute("UPDATE ingest_leases SET expires_at = now() - interval '1 second'")


async def test_one_of_many_takes_it(db: Database, database: DatabaseForTest) -> None:
    tenants = [Tenant("ingestd-1", f"host-{number}") for number in range(8)]
    connections = [await database.connect() for _ in tenants]
    for round_number in range(5):
        before = await leases.newest(db, A)
        last = None if before is None else before[0]
        terms = await asyncio.gather(
            *(leases.take(each, tenant, last, 60) for each, tenant in zip(connections, tenants, strict=True))
        )
        winners = [term for term in terms if term is not None]
        assert [term.epoch for term in winners] == [round_number + 1]
        await run_out(db)
    for connection in connections:
        await connection.close()


async def test_a_lease_that_lives_is_not_taken_and_one_that_ran_out_is(db: Database) -> None:
    first = await taken(db, A)
    assert await leases.take(db, B, first, 60) is None
    assert await leases.renew(db, A.lease, first.epoch, 60)
    await run_out(db)
    second = await taken(db, B, first)
    assert (second.epoch, second.holder) == (2, "host-b")
    assert not await leases.renew(db, A.lease, first.epoch, 60)
    assert await leases.renew(db, B.lease, second.epoch, 60)


async def test_its_own_holder_takes_it_at_once_and_raises_the_epoch(db: Database) -> None:
    first = await taken(db, A)
    assert (await taken(db, A, first)).epoch == 2
    assert not await leases.renew(db, A.lease, first.epoch, 60)


async def test_leases_do_not_touch_each_other(db: Database) -> None:
    await taken(db, A)
    assert (await taken(db, Tenant("ingestd-1-0", "host-b"))).epoch == 1
    assert (await leases.terms(db, Tenant("another", "host-a"))).epoch == 0


async def test_a_renewal_at_the_last_moment_wins(db: Database, other: Database) -> None:
    """The one who takes waits for the row, and reads it again."""
    first = await taken(db, A)
    await run_out(db)
    async with db.transaction():
        assert await leases.renew(db, A.lease, first.epoch, 60)
        taking = asyncio.create_task(leases.take(other, B, first, 60))
        await waits_for_a_lock(db)
    assert await taking is None


async def waits_for_a_lock(db: Database) -> None:
    async with asyncio.timeout(60):
        while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_the_fence_closes_with_a_newer_term(db: Database) -> None:
    first = await taken(db, A)
    fence = Fence(A.lease, first.epoch)
    await leases.require(db, fence)
    await run_out(db)
    await taken(db, B, first)
    with pytest.raises(Fenced, match="term 2, held by host-b"):
        await leases.require(db, fence)


async def test_what_was_given_back_can_be_taken_at_once(db: Database) -> None:
    first = await taken(db, A)
    await leases.release(db, A.lease, first.epoch)
    newest = await leases.newest(db, B)
    assert newest is not None
    assert newest[1]
    assert (await taken(db, B, newest[0])).epoch == 2


async def test_the_history_says_who_held_it(db: Database) -> None:
    first = await taken(db, A)
    await run_out(db)
    await taken(db, B, first)
    terms = await leases.terms(db, A)
    assert [(term.epoch, term.holder, term.mine) for term in terms.terms] == [
        (1, "host-a", True),
        (2, "host-b", False),
    ]
    assert abs(terms.ahead_us) < 1_000_000  # one host, one clock
    assert terms.terms[0].taken_at < terms.terms[1].taken_at


class Rig:
    """Two daemons' claims to one lease."""

    def __init__(self, dsn: str, tmp_path: Path) -> None:
        self.dsn = dsn
        self.tmp_path = tmp_path
        self.claims: list[Leadership] = []
        self.accesses: dict[str, MovableAccess] = {}  # of the newest claim of each name

    def claim(self, name: str, **options: object) -> Leadership:
        folder = self.tmp_path / name
        folder.mkdir(exist_ok=True)
        config = default_config(database={"dsn": self.dsn, "connect_timeout_s": 1})
        instance = InstanceConfig.model_validate({"state_dir": folder, "lease_ttl_s": 1, **options})
        self.accesses[name] = MovableAccess(config)
        made = Leadership(self.accesses[name], "ingestd-1", instance, Metrics())
        self.claims.append(made)
        return made


@pytest.fixture
async def rig(database: DatabaseForTest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(database.dsn, tmp_path)
    yield made
    for claim in made.claims:
        await claim.release(1)


async def test_a_standby_waits_and_takes_over_when_the_leader_is_silent(rig: Rig) -> None:
    leader, standby = rig.claim("a"), rig.claim("b")
    assert await leader.gain() is None
    holding = asyncio.create_task(leader.hold())
    gaining = asyncio.create_task(standby.gain())
    done, _ = await asyncio.wait({gaining}, timeout=3)
    assert not done
    assert standby.waits_for is not None
    assert "holds the lease ingestd-1" in standby.waits_for
    holding.cancel()
    before = await asyncio.wait_for(gaining, 60)
    assert before is not None
    assert (before.epoch, standby.epoch) == (1, 2)
    with pytest.raises(LeaseLost, match="term 2"):
        await asyncio.wait_for(leader.hold(), 60)
    assert leader.epoch == 0


async def test_a_standby_takes_at_once_what_is_given_back(rig: Rig) -> None:
    leader, standby = rig.claim("a"), rig.claim("b", lease_ttl_s=600)
    await leader.gain()
    await leader.release(1)
    assert await asyncio.wait_for(standby.gain(), 60) is not None


async def test_a_restart_of_the_leader_goes_on_at_once(rig: Rig) -> None:
    first = rig.claim("a", lease_ttl_s=600)
    await first.gain()
    again = rig.claim("a", lease_ttl_s=600)
    with capture_logs() as lines:
        assert await asyncio.wait_for(again.gain(), 60) is None
    assert again.epoch == 2
    assert [(line["event"], line["term"], line["after"]) for line in lines] == [("lease_taken", 2, "itself")]


async def test_an_outage_of_the_database_and_its_end_are_told_by_the_leader(rig: Rig) -> None:
    leader = rig.claim("a")
    await leader.gain()
    rig.accesses["a"].move(NOWHERE)
    rig.accesses["a"].cut()
    with capture_logs() as lines:
        holding = asyncio.create_task(leader.hold())
        async with asyncio.timeout(60):
            while lines == []:
                await asyncio.sleep(0.01)
            rig.accesses["a"].move(rig.dsn)
            while len(lines) == 1:
                await asyncio.sleep(0.01)
        holding.cancel()
    assert [(line["event"], line["lease"]) for line in lines] == [
        ("lease_not_renewed", "ingestd-1"),
        ("lease_renewed_again", "ingestd-1"),
    ]
    assert lines[0]["capture"] == "goes on: nobody else can take the lease meanwhile"


async def test_a_designated_standby_lets_the_other_begin(rig: Rig) -> None:
    standby = rig.claim("b", standby=True)
    gaining = asyncio.create_task(standby.gain())
    leader = rig.claim("a")
    assert await leader.gain() is None
    holding = asyncio.create_task(leader.hold())
    done, _ = await asyncio.wait({gaining, holding}, timeout=2.5)
    assert not done
    for task in (gaining, holding):
        task.cancel()


async def test_without_the_database_only_the_one_who_led_captures(rig: Rig) -> None:
    leader, standby = rig.claim("a"), rig.claim("b")
    await leader.gain()
    gaining = asyncio.create_task(standby.gain())
    await asyncio.wait({gaining}, timeout=0.5)
    gaining.cancel()
    rig.dsn = NOWHERE
    again, stranger = rig.claim("a"), rig.claim("b")
    with capture_logs() as lines:
        assert await asyncio.wait_for(again.gain(), 60) is None
        assert again.epoch == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stranger.gain(), 2)
    assert [(line["event"], line["because"], line["capture"]) for line in lines] == [
        ("lease_not_taken", "the database is away", capture)
        for capture in (
            "goes on without the lease: this one led when the database last said",
            "none, until the database says who leads",
        )
    ]
    assert stranger.waits_for is not None
    assert "does not say who captures" in stranger.waits_for


async def test_one_that_captured_without_the_database_gives_way_when_it_hears_of_another(rig: Rig) -> None:
    leader, other = rig.claim("a"), rig.claim("b")
    await leader.gain()
    await leader.release(1)
    there, rig.dsn = rig.dsn, NOWHERE
    alone = rig.claim("a")
    assert await alone.gain() is None
    rig.dsn = there
    await other.gain()
    holding = asyncio.create_task(other.hold())
    rig.accesses["a"].move(there)  # its database answers again
    with pytest.raises(LeaseLost, match="term 2"):
        await asyncio.wait_for(alone.hold(), 60)
    holding.cancel()


async def test_what_a_frozen_leader_has_locked_is_freed(rig: Rig, database: DatabaseForTest, other: Database) -> None:
    """It stopped in the middle of a flush: its rows would keep the next leader's copies of the same trades waiting."""
    leader, standby = rig.claim("a"), rig.claim("b")
    await leader.gain()
    frozen = await database.connect(application_name="ingestd a")
    await other.execute("INSERT INTO ingest_positions (source, position) VALUES ('journal:a', 0)")

    async def flush() -> None:
        async with frozen.transaction():
            await frozen.execute("UPDATE ingest_positions SET position = 1")
            assert await asyncio.wait_for(standby.gain(), 60) is not None
            await frozen.execute("SELECT 1")

    with pytest.raises((ConnectionLost, DatabaseError)):
        await flush()
    async with other.transaction(lock_timeout_s=1):
        assert await other.fetchval("SELECT position FROM ingest_positions FOR UPDATE") == 0
    await frozen.close()


async def test_one_that_knows_of_another_does_not_capture_when_the_database_goes_away(rig: Rig) -> None:
    """It led once, stopped in order, and has seen since that the other one leads."""
    first, other_host = rig.claim("a"), rig.claim("b")
    await first.gain()
    await first.release(1)
    await other_host.gain()
    back = rig.claim("a", lease_ttl_s=600)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(back.gain(), 1)
    rig.dsn = NOWHERE
    alone = rig.claim("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(alone.gain(), 2)
