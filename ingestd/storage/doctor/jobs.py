"""TimescaleDB's jobs: aggregates that are stale, jobs that fail, refresh windows that reach over dropped rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ingestd.config.models import Config
from ingestd.storage.database import Database
from ingestd.storage.doctor.findings import Finding, age, interval
from ingestd.storage.doctor.server import IN_NEW_SESSION, SLOTS_NEEDED, more_slots
from ingestd.storage.session_settings import qualified

REFRESH, RETENTION, COMPRESSION = "policy_refresh_continuous_aggregate", "policy_retention", "policy_compression"

_MISSED_RUNS = 3  # of the schedule, before an aggregate counts as stale
_AT_LEAST = timedelta(minutes=30)
_WRONG_AFTER = timedelta(days=1)
_DAY = timedelta(days=1)
_NEWER = "-- install a release of TimescaleDB that was made for this release of PostgreSQL, restart the server, and"


@dataclass(frozen=True, slots=True)
class Job:
    """One job. `relation` with its schema. `start_offset` None: from the first row on. `after`: the age at which rows
    are dropped or compressed. `failed`: at its last run, which began at `last_run`, with `error`, if this role may read
    it."""

    number: int
    procedure: str
    relation: str
    every: timedelta
    scheduled: bool = True
    start_offset: timedelta | None = None
    after: timedelta | None = None
    last_success: datetime | None = None
    due: datetime | None = None
    last_run: datetime | None = None
    failed: bool = False
    failures: int = 0
    error: str | None = None

    @property
    def last_done(self) -> datetime | None:
        """When it last did its work."""
        return self.last_run if _cause(self) == _NOT_FINISHED else self.last_success


@dataclass(frozen=True, slots=True)
class JobFacts:
    """`sources`: of each aggregate, the relation that it reads. `now`: the server's clock. `slots_needed`: worker
    processes that the server needs to start every job; None: it has them."""

    now: datetime
    jobs: tuple[Job, ...]
    sources: Mapping[str, str] = field(default_factory=dict)
    slots_needed: int | None = None


async def read(db: Database) -> JobFacts:
    """The jobs of all hypertables and aggregates, those of others too."""
    return JobFacts(
        now=await db.fetchval("SELECT clock_timestamp()"),
        jobs=tuple(Job(**row) for row in await db.fetch(_JOBS)),
        sources={row["aggregate"]: row["source"] for row in await db.fetch(_SOURCES)},
        slots_needed=await db.fetchval(
            f"SELECT needed FROM (SELECT {SLOTS_NEEDED} AS needed) AS rule"  # noqa: S608 # our text
            " WHERE needed > current_setting('max_worker_processes')::integer"
        ),
    )


def judge_windows(facts: JobFacts, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # the form of every check
    """A refresh over dropped rows deletes their candles: find each window that reaches as far as a retention."""
    kept = {job.relation: job.after for job in facts.jobs if job.procedure == RETENTION and job.after is not None}
    for job in facts.jobs:
        if job.procedure != REFRESH:
            continue
        bounds = {name: kept[name] for name in (facts.sources.get(job.relation, ""), job.relation) if name in kept}
        if not bounds:
            continue
        name, least = min(bounds.items(), key=lambda bound: bound[1])
        if job.start_offset is not None and job.start_offset < least:
            continue
        reach = "to the first row" if job.start_offset is None else f"{interval(job.start_offset)} back"
        message = f"it is refreshed {reach}, but {name} keeps {interval(least)}: candles of dropped rows are deleted"
        offset = least - _DAY if least > _DAY else least / 2
        yield Finding("error", job.relation, message, _set_start(job.number, offset))


def judge_freshness(facts: JobFacts, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # as above
    """Find each aggregate whose refresh is overdue, and each without a refresh."""
    refreshed = {job.relation: job for job in facts.jobs if job.procedure == REFRESH}
    for relation in facts.sources:
        job = refreshed.get(relation)
        if job is None:
            message = "nothing refreshes it: each query computes it from all its rows, and retention empties it"
            yield Finding("error", relation, message, f"ingestd migrate -c FILE\n-- or, of your own:\n{_add(relation)}")
            continue
        since = job.last_done or job.due
        if not job.scheduled or since is None:
            continue  # `judge_failures` names a job that is paused
        late = facts.now - since
        if late > max(_MISSED_RUNS * job.every, _AT_LEAST):
            word = "last refreshed" if job.last_done else "never refreshed; the first refresh was due"
            message = f"{word} {age(late)} ago, and every {interval(job.every)} it should be"
            yield Finding(
                "error" if late > _WRONG_AFTER else "warning", relation, message, f"CALL run_job({job.number});"
            )


def judge_failures(facts: JobFacts, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # as above
    """Find the jobs that failed when they last ran, those of one cause together, and each that is paused."""
    failed: dict[str, list[Job]] = {}
    for job in facts.jobs:
        if job.failed:
            failed.setdefault(_cause(job), []).append(job)
    for cause, of_cause in failed.items():
        yield _failure(cause, of_cause, facts)
    for job in facts.jobs:
        if not job.scheduled:
            message = "it is paused: by hand, or by a `migrate --rename-symbols` that was interrupted (run it again)"
            yield Finding("error", _subject(job), message, f"SELECT alter_job({job.number}, scheduled => true);")


# Causes that lie in the server, by how the message of each begins.
_NOT_STARTED = "failed to start job"
_NOT_FINISHED = 'cannot drop portal "" while it is being set up'


def _cause(job: Job) -> str:
    """What makes it fail: one of the above, or its own message."""
    error = job.error or "its owner may read why in timescaledb_information.job_errors"
    return next((known for known in (_NOT_STARTED, _NOT_FINISHED) if error.startswith(known)), error)


def _failure(cause: str, jobs: Sequence[Job], facts: JobFacts) -> Finding:
    subject = _subject(jobs[0]) if len(jobs) == 1 else f"{len(jobs)} jobs"
    numbers = ", ".join(str(job.number) for job in jobs)
    of_these = f"FROM timescaledb_information.{{}} WHERE job_id IN ({numbers})"
    again = f"SELECT alter_job(job_id, next_start => now()) {of_these.format('jobs')};"  # shown, not run
    if cause == _NOT_STARTED:
        message = "no worker process was free when it was last due; the server tries again, each time later"
        return Finding(
            "warning", subject, message, again if facts.slots_needed is None else more_slots(facts.slots_needed)
        )
    if cause == _NOT_FINISHED:
        message = (
            "this TimescaleDB does not fit this release of PostgreSQL: the work of each run is stored, but then the run"
            f" counts as failed, and the next one comes later ({cause})"
        )
        return Finding("warning", subject, message, f"{_NEWER}\n{IN_NEW_SESSION}")
    message = f"failed at the last run, {sum(job.failures for job in jobs)} times in all: {cause}"
    remedy = f"SELECT * {of_these.format('job_errors')} ORDER BY start_time DESC LIMIT 5;\n-- and when that is mended\n"
    return Finding("error", subject, message, remedy + (f"CALL run_job({numbers});" if len(jobs) == 1 else again))


def _subject(job: Job) -> str:
    return f"job {job.number}, {job.procedure} of {job.relation}"


@dataclass(frozen=True, slots=True)
class MarkFacts:
    """Without continuous aggregates: minutes that wait for the daemon's refresh, by table; at most `MARKS_READ`."""

    waiting: Mapping[str, int]


MARKS_READ = 100_001
_MANY_MARKS = 100_000


async def read_marks(db: Database) -> MarkFacts:
    """Count the marks, and stop counting when there are many."""
    waiting = {}
    for table in ("candles_marks", "ohlcv_1h_marks"):
        waiting[table] = await db.fetchval(
            f"SELECT count(*) FROM (SELECT FROM {qualified(table)} LIMIT {MARKS_READ}) AS first"  # noqa: S608 # our names
        )
    return MarkFacts(waiting)


def judge_marks(facts: MarkFacts, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # as above
    """Find candles that nobody refreshes: the daemon takes marks away every few seconds."""
    functions = {"candles_marks": "ingestd_refresh_candles", "ohlcv_1h_marks": "ingestd_refresh_ohlcv_1h"}
    for table, count in facts.waiting.items():
        if count > _MANY_MARKS:
            message = f"more than {_MANY_MARKS:,} minutes wait for their candles: no daemon refreshes them"
            remedy = f"SELECT {functions[table]}(10000);  -- again until it returns 0, or start the daemon"
            yield Finding("warning", qualified(table), message, remedy)


def _set_start(number: int, offset: timedelta) -> str:
    setting = f'{{"start_offset": "{interval(offset)}"}}'
    alter = f"SELECT alter_job(job_id, config => config || '{setting}')"
    return f"{alter} FROM timescaledb_information.jobs WHERE job_id = {number};"  # shown, not run


def _add(relation: str) -> str:
    return (
        f"SELECT add_continuous_aggregate_policy('{relation}', start_offset => INTERVAL '7 days',"
        " end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour');"
    )


_JOBS = """
SELECT job.job_id AS number, job.proc_name AS procedure,
       format('%s.%s', job.hypertable_schema, job.hypertable_name) AS relation,
       job.schedule_interval AS every, job.scheduled,
       (job.config->>'start_offset')::interval AS start_offset,
       coalesce(job.config->>'drop_after', job.config->>'compress_after')::interval AS after,
       nullif(told.last_successful_finish, '-infinity') AS last_success,
       nullif(job.next_start, '-infinity') AS due,
       nullif(told.last_run_started_at, '-infinity') AS last_run,
       coalesce(told.last_run_status = 'Failed', false) AS failed,
       coalesce(told.total_failures, 0) AS failures,
       (SELECT format('%s [%s]', err_message, sqlerrcode) FROM timescaledb_information.job_errors AS errors
        WHERE errors.job_id = job.job_id ORDER BY start_time DESC LIMIT 1) AS error
FROM timescaledb_information.jobs AS job
LEFT JOIN timescaledb_information.job_stats AS told USING (job_id)
WHERE job.hypertable_name IS NOT NULL
ORDER BY job_id
"""
_SOURCES = """
SELECT format('%s.%s', made.view_schema, made.view_name) AS aggregate,
       format('%s.%s', coalesce(source.view_schema, made.hypertable_schema),
              coalesce(source.view_name, made.hypertable_name)) AS source
FROM timescaledb_information.continuous_aggregates AS made
LEFT JOIN timescaledb_information.continuous_aggregates AS source
  ON (source.materialization_hypertable_schema, source.materialization_hypertable_name)
   = (made.hypertable_schema, made.hypertable_name)
ORDER BY 1
"""
