"""Upkeep and the look at the start: one bad step or a busy schema stops nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog.testing

from ingestd.errors import DatabaseError
from ingestd.ops.metrics import Metrics
from ingestd.status import MarketInfo
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.upkeep import Upkeep
from tests.support.database_doubles import MovableAccess
from tests.support.postgres import DatabaseForTest, default_config, has_timescaledb


def access_to(database: DatabaseForTest, **options: object) -> DatabaseAccess:
    return DatabaseAccess(default_config(database={"dsn": database.dsn, **options}))


async def test_one_bad_market_does_not_stop_the_candles(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    db = await postgres_database.connect()
    await db.execute(
        "INSERT INTO trades VALUES ('2026-01-01', 'x', 'A/B', '1', 1, 'buy', 1.5, 2, now())",
    )
    await db.execute("ALTER TABLE symbols RENAME TO symbols_elsewhere")
    market = MarketInfo("x", "A/B", "ab", "A", "B", "spot", True)
    metrics = Metrics()
    config = default_config(database={"dsn": postgres_database.dsn}, retention={"candles_1m_days": 0, "trades_days": 0})
    upkeep = Upkeep(access_to(postgres_database), config, lambda: [market], metrics)
    await upkeep.turn()
    await upkeep.turn()  # the markets are not due again: that they failed is still what is known
    (problem,) = upkeep.problems()
    assert problem.startswith("The upkeep of the database fails at store_markets (1 in a row): ")
    await upkeep.close(within_s=5)
    assert await db.fetchval("SELECT count(*) FROM candles_1m") == 1
    assert metrics.totals(metrics.upkeep_failures, "step")["store_markets"] > 0
    await db.close()


async def test_an_outage_is_told_of_at_its_beginning_and_now_and_then(
    postgres_database: DatabaseForTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = 0.0
    monkeypatch.setattr("ingestd.log_limit.monotonic_s", lambda: clock_s)
    metrics, config = Metrics(), default_config(database={"dsn": postgres_database.dsn})
    away = MovableAccess(default_config(database={"dsn": "postgresql://nobody@127.0.0.1:1/none"}))
    upkeep = Upkeep(away, config, list, metrics)
    with structlog.testing.capture_logs() as logs:
        for _ in range(32):
            await upkeep.turn()
            clock_s += 5.0
        away.move(postgres_database.dsn)
        await upkeep.turn()
    told = [line["attempts"] for line in logs if line["event"] == "upkeep_failed"]
    assert told == [1, 13, 25]
    assert [line["after_attempts"] for line in logs if line["event"] == "upkeep_works_again"] == [32]
    assert metrics.totals(metrics.upkeep_failures, "step") == {"connect": 32}
    await upkeep.close(within_s=5)


async def test_a_database_that_is_busy_with_its_schema_is_an_outage_at_the_first_start_too(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    access = access_to(postgres_database, flush_timeout_s=0.3)
    locker = await postgres_database.connect()
    for meanwhile in (
        "nothing is captured, until the database says who leads",
        "the journal keeps what is captured",
    ):
        async with locker.transaction():
            await locker.execute("LOCK TABLE ingestd_migrations IN ACCESS EXCLUSIVE MODE")
            with structlog.testing.capture_logs() as logs:
                assert await access.look(tmp_path) is None
            assert [(line["event"], line["until_then"]) for line in logs] == [
                ("database_unreachable_at_start", meanwhile)
            ]
        assert await access.look(tmp_path) is not None
    await asyncio.wait_for(locker.close(), 60)


async def test_candles_that_cannot_be_refreshed_are_a_problem_until_they_can(
    postgres_database: DatabaseForTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = Upkeep(
        access_to(postgres_database), default_config(database={"dsn": postgres_database.dsn}), list, Metrics()
    )

    async def refused(*_: object) -> None:
        raise DatabaseError("permission denied for table candles_1m", sqlstate="42501")

    with monkeypatch.context() as patched:
        patched.setattr("ingestd.storage.rollups.refresh", refused)
        await upkeep.turn()
        assert upkeep.problems() == []  # one may be a lock that was held
        await upkeep.turn()
        (problem,) = upkeep.problems()
        assert "refresh_candles (2 in a row): permission denied for table candles_1m" in problem
    await upkeep.turn()
    assert upkeep.problems() == []
    await upkeep.close(within_s=5)


async def test_a_job_of_the_server_that_fails_is_said(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TimescaleDB refreshes the candles itself, as the owner of the job, who may lack a grant."""
    if not has_timescaledb():
        pytest.skip("there is no TimescaleDB on this machine")
    database: DatabaseForTest = request.getfixturevalue("timescaledb_database")
    monkeypatch.setattr("ingestd.storage.upkeep.JOBS_EVERY_S", 0.0)
    db = await database.connect()
    upkeep = Upkeep(access_to(database), default_config(database={"dsn": database.dsn}), list, Metrics())
    await upkeep.turn()
    assert upkeep.problems() == []
    # As the server notes it: a run that failed, none that succeeded.
    await db.execute(
        "INSERT INTO _timescaledb_internal.bgw_job_stat SELECT job_id, now(), now(), now() + interval '1 minute',"
        " '-infinity', false, 3, '0', '0', 0, 3, 0, 3, 0, 0 FROM timescaledb_information.jobs"
        " WHERE hypertable_name = 'candles_1m' AND proc_name = 'policy_refresh_continuous_aggregate'"
    )
    await upkeep.turn()
    (problem,) = upkeep.problems()
    assert "policy_refresh_continuous_aggregate of candles_1m) failed when it last ran, 3 times in all" in problem
    await db.execute("UPDATE _timescaledb_internal.bgw_job_stat SET last_run_success = true")
    await upkeep.turn()
    assert upkeep.problems() == []
    await upkeep.close(within_s=5)
    await db.close()
