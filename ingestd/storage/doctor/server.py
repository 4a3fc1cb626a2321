"""The server and its extension: versions, encoding, the library, and the workers that run TimescaleDB's jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ingestd.config.models import Config
from ingestd.storage.database import Database
from ingestd.storage.doctor.findings import Finding
from ingestd.storage.engine import IS_PRELOADED, MINIMUM_POSTGRES, MINIMUM_TIMESCALEDB
from ingestd.storage.session_settings import quoted

UPDATE_EXTENSION = "ALTER EXTENSION timescaledb UPDATE"
IN_NEW_SESSION = f'psql -X -d DATABASE -c "{UPDATE_EXTENSION}"'  # only as a session's first command
_PRELOAD = "ALTER SYSTEM SET shared_preload_libraries = 'timescaledb';  -- then restart the server"
_ENOUGH_WORKERS = 16
# TimescaleDB's own rule: its workers, those of parallel queries, and three of the server's.
SLOTS_NEEDED = (
    "current_setting('timescaledb.max_background_workers', true)::integer"
    " + current_setting('max_parallel_workers')::integer + 3"
)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """`extension`: TimescaleDB's version in this database. `available`: the newest that the server has installed.

    `slots`: how many worker processes the server runs at once; `slots_needed`: so many that every job can start.
    """

    database: str
    version: int  # PostgreSQL's major version
    encoding: str
    extension: str | None = None
    available: str | None = None
    preloaded: bool = False
    license: str | None = None
    workers: int | None = None
    slots: int = 0
    slots_needed: int | None = None


async def read(db: Database) -> ServerFacts:
    """Ask for the facts, with nothing that needs the extension's library."""
    row = await db.fetchrow(
        "SELECT current_database() AS database, current_setting('server_version_num')::integer / 10000 AS version,"  # noqa: S608
        " current_setting('server_encoding') AS encoding, extversion AS extension,"
        " (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS available,"
        f" {IS_PRELOADED} AS preloaded, current_setting('timescaledb.license', true) AS license,"
        " current_setting('timescaledb.max_background_workers', true)::integer AS workers,"
        f" current_setting('max_worker_processes')::integer AS slots, {SLOTS_NEEDED} AS slots_needed"
        " FROM (VALUES (1)) AS one LEFT JOIN pg_extension ON extname = 'timescaledb'"
    )
    assert row is not None
    return ServerFacts(**row)


def judge(facts: ServerFacts, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # the form of every check
    """Say what keeps the daemon from using this server, and what its extension lacks."""
    if facts.version < MINIMUM_POSTGRES:
        message = f"PostgreSQL {facts.version} is too old: {MINIMUM_POSTGRES} or newer is needed"
        yield Finding("error", "server", message, "pg_upgrade, to a newer major version")
    if facts.encoding != "UTF8":
        message = f"the encoding is {facts.encoding}, which cannot hold every text that a venue sends"
        remedy = "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8';  -- and name it in database.dsn"
        yield Finding("error", f"database {facts.database}", message, remedy)
    if facts.extension is not None:
        yield from _judge_extension(facts, facts.extension)


def library_missing(message: str) -> Finding:
    """The finding for 58P01: every statement fails, because the server lacks the library of the extension's version."""
    remedy = f"{IN_NEW_SESSION}   # or install the old version of the library beside the new one"
    return Finding("error", "extension timescaledb", f"it is older than the server's library: {message}", remedy)


def _judge_extension(facts: ServerFacts, version: str) -> Iterator[Finding]:
    subject, update = "extension timescaledb", f"{IN_NEW_SESSION}   # DATABASE is {quoted(facts.database)}"
    if not facts.preloaded:
        yield Finding("error", subject, "the server was started without its library", _PRELOAD)
    if _numbers(version)[:2] < MINIMUM_TIMESCALEDB:
        needed = ".".join(map(str, MINIMUM_TIMESCALEDB))
        yield Finding("error", subject, f"{version} is too old: {needed} or newer is needed", update)
    elif facts.available is not None and _numbers(version) < _numbers(facts.available):
        message = f"{version} is older than the library that the server has, {facts.available}"
        yield Finding("warning", subject, f"{message}: once the old library is removed every statement fails", update)
    if facts.preloaded and facts.license == "timescale" and not facts.workers:
        message = "timescaledb.max_background_workers is 0: no job runs, so nothing is refreshed, compressed or dropped"
        remedy = f"ALTER SYSTEM SET timescaledb.max_background_workers = {_ENOUGH_WORKERS};  -- then restart the server"
        yield Finding("error", "jobs", message, remedy)
    elif facts.preloaded and facts.license == "timescale" and facts.slots < (facts.slots_needed or 0):
        message = (
            f"max_worker_processes is {facts.slots}, too few for {facts.workers} workers of TimescaleDB's jobs and "
            "those of queries: jobs fail to start, and start later"
        )
        yield Finding("warning", "jobs", message, more_slots(facts.slots_needed))


def more_slots(needed: int | None) -> str:
    """The SQL that gives the server so many worker processes."""
    return f"ALTER SYSTEM SET max_worker_processes = {needed};  -- then restart the server"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split("."))
