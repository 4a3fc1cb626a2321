"""What the doctor says of jobs: windows, freshness, failures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestd.config.loading import parse
from ingestd.storage.doctor import jobs
from ingestd.storage.doctor.jobs import REFRESH, RETENTION, Job, JobFacts, MarkFacts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
CONFIG = parse({}, {})
MINUTES = Job(1001, REFRESH, "public.candles_1m", timedelta(minutes=1), start_offset=364 * DAY, last_success=NOW)
TRADES = Job(1002, RETENTION, "public.trades", DAY, after=365 * DAY)
OWN = Job(1003, RETENTION, "public.candles_1m", DAY, after=400 * DAY)
SOURCES = {"public.candles_1m": "public.trades"}


def facts(*found: Job, sources: dict[str, str] = SOURCES) -> JobFacts:
    return JobFacts(NOW, found, sources)


@pytest.mark.parametrize(
    ("start", "trades", "own", "wrong"),
    [
        (364 * DAY, 365 * DAY, 400 * DAY, None),
        (365 * DAY, 365 * DAY, 400 * DAY, "364 days"),  # the window may not touch the retention
        (364 * DAY, 365 * DAY, 30 * DAY, "29 days"),  # its own retention counts too
        (None, 30 * DAY, 400 * DAY, "29 days"),  # from the first row on
        (HOUR, 12 * HOUR, 400 * DAY, None),
        (DAY, 12 * HOUR, 400 * DAY, "06:00:00"),
    ],
)
def test_a_window_that_reaches_over_dropped_rows(
    start: timedelta | None, trades: timedelta, own: timedelta, wrong: str | None
) -> None:
    found = list(
        jobs.judge_windows(
            facts(replace(MINUTES, start_offset=start), replace(TRADES, after=trades), replace(OWN, after=own)), CONFIG
        )
    )
    assert [finding.level for finding in found] == ([] if wrong is None else ["error"])
    if wrong is not None:
        assert f'"start_offset": "{wrong}"' in found[0].remedy
        assert "job_id = 1001" in found[0].remedy


def test_without_retention_a_window_has_no_bound() -> None:
    assert list(jobs.judge_windows(facts(replace(MINUTES, start_offset=None)), CONFIG)) == []


@pytest.mark.parametrize(
    ("age", "level"), [(timedelta(minutes=29), None), (timedelta(minutes=31), "warning"), (25 * HOUR, "error")]
)
def test_an_aggregate_that_is_not_refreshed(age: timedelta, level: str | None) -> None:
    for job in (replace(MINUTES, last_success=NOW - age), replace(MINUTES, last_success=None, due=NOW - age)):
        found = [(finding.level, finding.remedy) for finding in jobs.judge_freshness(facts(job), CONFIG)]
        assert found == ([] if level is None else [(level, "CALL run_job(1001);")])


def test_a_slow_schedule_is_not_stale() -> None:
    job = replace(MINUTES, every=6 * HOUR, last_success=NOW - 17 * HOUR)
    assert list(jobs.judge_freshness(facts(job), CONFIG)) == []


def test_an_aggregate_without_a_policy() -> None:
    (found,) = jobs.judge_freshness(facts(TRADES), CONFIG)
    assert (found.level, found.subject) == ("error", "public.candles_1m")
    assert "add_continuous_aggregate_policy('public.candles_1m'" in found.remedy


def test_jobs_that_fail_and_jobs_that_are_paused() -> None:
    failing = replace(TRADES, failed=True, failures=3, error="permission denied [42501]")
    paused = replace(MINUTES, scheduled=False, last_success=NOW - 9 * DAY)
    assert list(jobs.judge_freshness(facts(paused), CONFIG)) == []  # it is said once
    one, two = jobs.judge_failures(facts(failing, paused, OWN), CONFIG)
    assert "3 times in all: permission denied [42501]" in one.message
    assert one.remedy.endswith("CALL run_job(1002);")
    assert two.remedy == "SELECT alter_job(1001, scheduled => true);"
    assert {one.level, two.level} == {"error"}


def test_jobs_of_one_cause_are_one_finding() -> None:
    failing = [replace(job, failed=True, failures=2, error="out of memory [53200]") for job in (TRADES, OWN)]
    (found,) = jobs.judge_failures(facts(*failing), CONFIG)
    assert (found.level, found.subject) == ("error", "2 jobs")
    assert found.message == "failed at the last run, 4 times in all: out of memory [53200]"
    assert "job_errors WHERE job_id IN (1002, 1003)" in found.remedy
    assert found.remedy.endswith("FROM timescaledb_information.jobs WHERE job_id IN (1002, 1003);")


@pytest.mark.parametrize(
    ("needed", "remedy"), [(27, "max_worker_processes = 27;"), (None, "alter_job(job_id, next_start => now())")]
)
def test_jobs_for_which_no_process_was_free(needed: int | None, remedy: str) -> None:
    """As TimescaleDB 2.26.4 tells of it."""
    failing = [
        replace(
            job, failed=True, failures=1, error=f'failed to start job Job {job.number} ("x") failed to start [XX000]'
        )
        for job in (TRADES, OWN)
    ]
    (found,) = jobs.judge_failures(replace(facts(*failing), slots_needed=needed), CONFIG)
    assert (found.level, found.subject) == ("warning", "2 jobs")
    assert remedy in found.remedy


def test_a_run_that_counts_as_failed_although_its_work_is_stored() -> None:
    """As TimescaleDB 2.26.4 does on PostgreSQL 15.20."""
    error = 'cannot drop portal "" while it is being set up [24000]'
    done = replace(MINUTES, last_success=None, due=NOW - 2 * DAY, failed=True, failures=9, error=error)
    (found,) = jobs.judge_failures(facts(replace(done, last_run=NOW)), CONFIG)
    assert found.level == "warning"
    assert "the work of each run is stored" in found.message
    assert found.remedy.endswith('"ALTER EXTENSION timescaledb UPDATE"')
    assert list(jobs.judge_freshness(facts(replace(done, last_run=NOW)), CONFIG)) == []
    (late,) = jobs.judge_freshness(facts(replace(done, last_run=NOW - HOUR)), CONFIG)
    assert late.message.startswith("last refreshed 1.0 hours ago")


@pytest.mark.parametrize(("count", "found"), [(0, 0), (100_000, 0), (100_001, 1)])
def test_marks_that_nobody_takes(count: int, found: int) -> None:
    judged = list(jobs.judge_marks(MarkFacts({"candles_marks": count, "ohlcv_1h_marks": 0}), CONFIG))
    assert len(judged) == found
    assert all("ingestd_refresh_candles" in finding.remedy for finding in judged)
