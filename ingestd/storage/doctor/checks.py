"""The table of checks, one row each, and the examination that runs them.

To add a check: a function that reads facts, one that judges them, and a row of `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from ingestd.config.models import Config
from ingestd.errors import ConfigError, DatabaseError, Problem, SchemaError
from ingestd.storage import engine as engines
from ingestd.storage import packs, policies
from ingestd.storage.candles import require_room
from ingestd.storage.database import Database
from ingestd.storage.doctor import clocks, drift, growth, indexes, jobs, lateness, server, sizes
from ingestd.storage.doctor.description import Description, describe, describe_pack, described
from ingestd.storage.doctor.findings import MIGRATE, Finding
from ingestd.storage.engine import Engine
from ingestd.storage.migrate import check_schema
from ingestd.storage.rights import missing_grants

Facts = TypeVar("Facts")
Reading: TypeAlias = Callable[["Examined"], Awaitable[Facts]]

_NO_SUCH_FILE, _DENIED = "58P01", "42501"
_AGAIN = "ingestd doctor -c FILE"


@dataclass(frozen=True, slots=True)
class Examined:
    """What a check may look at. `free_bytes`: on the server's disk, if the user says so."""

    db: Database
    engine: Engine
    config: Config
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Check(Generic[Facts]):
    """One check. `about`: what it finds. `applies`: to which engine. `judge` does no I/O."""

    name: str
    about: str
    read: Reading[Facts]
    judge: Callable[[Facts, Config], Iterable[Finding]]
    applies: Callable[[Engine], bool] = lambda _engine: True


@dataclass(frozen=True, slots=True)
class Report:
    """The findings by check, in the order of `CHECKS`; `left_out`: checks that could not be made because of an earlier
    finding. `engine` None: it could not be told."""

    target: str
    engine: Engine | None
    findings: dict[str, list[Finding]]
    left_out: tuple[str, ...] = ()

    def count(self, level: str) -> int:
        return sum(finding.level == level for findings in self.findings.values() for finding in findings)


async def examine(db: Database, config: Config, *, free_bytes: int | None = None) -> Report:
    """Make every check. Raises ConnectionLost if the server does not answer.

    Without a usable server, or the schema of this version, the checks that need it are left out.
    """
    findings: dict[str, list[Finding]] = {}
    try:
        findings["server"] = list(server.judge(await server.read(db), config))
    except DatabaseError as error:
        if error.sqlstate != _NO_SUCH_FILE:
            raise
        # Only the session's first statement fails so: from then on the extension seems to be the Apache edition.
        findings["server"] = [server.library_missing(str(error).partition(";")[0])]  # the rest is advice
        return Report(str(db.target), None, findings, tuple(check.name for check in CHECKS))
    try:
        engine = await engines.detect(db)
    except SchemaError:  # for a reason that `server.judge` has found too
        return Report(str(db.target), None, findings, tuple(check.name for check in CHECKS))
    examined = Examined(db, engine, config, free_bytes)
    checks = [check for check in CHECKS if check.applies(engine)]
    read: dict[Reading[Any], Any] = {}  # several checks may judge the same facts
    for number, check in enumerate(checks, start=1):
        findings[check.name] = await _made(check, examined, read)
        if check.name == "migrations" and findings[check.name]:
            return Report(str(db.target), engine, findings, tuple(check.name for check in checks[number:]))
    return Report(str(db.target), engine, findings)


async def _made(check: Check[Any], examined: Examined, read: dict[Reading[Any], Any]) -> list[Finding]:
    """What the check finds; if the server refuses its queries, that is the finding."""
    try:
        if check.read not in read:
            read[check.read] = await check.read(examined)
    except DatabaseError as error:
        if error.sqlstate == _DENIED:
            return [
                Finding("warning", check.name, f"this role may not look: {error}", f"{_AGAIN}   # as a role that may")
            ]
        remedy = f"{_AGAIN}   # again, once the rest is mended"
        return [Finding("warning", check.name, f"the look failed: {error}", remedy)]
    return list(check.judge(read[check.read], examined.config))


async def _read_migrations(examined: Examined) -> str | None:
    """Why the schema is not this version's; None: it is."""
    try:
        await check_schema(examined.db, packs.configured(examined.config))
    except SchemaError as error:
        return _without(str(error), examined.db)
    return None


def judge_migrations(problem: str | None, config: Config) -> Iterator[Finding]:  # noqa: ARG001 # as every check
    """A schema that is not this version's."""
    if problem is not None:
        commands = (f"{MIGRATE} --rename-symbols", MIGRATE)
        named = (command for command in commands if command in problem or command.replace(" -c FILE", "") in problem)
        yield Finding("error", "schema", problem, next(named, "ingestd migrate status -c FILE"))


@dataclass(frozen=True, slots=True)
class Compared:
    """A schema, or a pack: what its migrations make (None: the package does not say), and what is there."""

    pack: str
    expected: Description | None
    present: Description


async def _read_schema(examined: Examined) -> Sequence[Compared]:
    db, engine = examined.db, examined.engine
    return [
        Compared("", described(engine), await describe(db, engine)),
        *[
            Compared(pack, described(engine, pack), await describe_pack(db, engine, pack))
            for pack in await packs.applied(db)
        ],
    ]


def judge_schema(facts: Sequence[Compared], config: Config) -> Iterator[Finding]:
    """Where the schema, or a pack, is not what the migrations make."""
    for compared in facts:
        if compared.expected is not None and compared.expected.version == compared.present.version:
            yield from drift.compare(compared.expected, compared.present)
        elif compared.pack and compared.pack not in packs.configured(config):
            message = "it is not compared: its migrations are not those of this version, and database.packs lacks it"
            remedy = f"{MIGRATE}   # with {compared.pack} in database.packs"
            yield Finding("warning", f"pack {compared.pack}", message, remedy)
        else:
            message = "this installation has no description of the schema to compare with"
            subject = f"pack {compared.pack}" if compared.pack else "schema"
            yield Finding("warning", subject, message, "pip install --force-reinstall ingestd")


async def _read_rights(examined: Examined) -> Sequence[str]:
    return await missing_grants(examined.db, examined.engine)


def judge_rights(grants: Sequence[str], config: Config) -> Iterator[Finding]:  # noqa: ARG001 # as every check
    """Rights that the daemon's role lacks."""
    for grant in grants:
        what, _, role = grant.removeprefix("GRANT ").rpartition(" TO ")
        yield Finding("error", f"role {role}", f"it lacks {what}, which the daemon needs", f"{grant};")


async def _read_policies(examined: Examined) -> tuple[Engine, policies.Present]:
    return examined.engine, await policies.read(examined.db)


def judge_policies(facts: tuple[Engine, policies.Present], config: Config) -> Iterator[Finding]:
    """Chunk intervals and policies that are not those of the configuration."""
    engine, present = facts
    try:
        require_room(config)
    except ConfigError as error:
        yield from (Finding("error", problem.path, _said(problem), problem.hint or "") for problem in error.problems)
        return
    for change in policies.differences(present, engine, config):
        subject, _, message = change.text.partition(": ")
        yield Finding("warning", subject, f"the configuration wants: {message}", f"{change.sql}\n-- or\n{MIGRATE}")


def _said(problem: Problem) -> str:
    return f"{problem.message} (found {problem.value})"


def _without(message: str, db: Database) -> str:
    return message.removeprefix(f"{db.target}: ")


def _of_database(read: Callable[[Database], Awaitable[Facts]]) -> Reading[Facts]:
    return lambda examined: read(examined.db)


def _of_engine(read: Callable[[Database, Engine], Awaitable[Facts]]) -> Reading[Facts]:
    return lambda examined: read(examined.db, examined.engine)


def _chunks_of(examined: Examined) -> Awaitable[sizes.ChunkFacts]:
    return sizes.read(examined.db, has_columnstore=examined.engine.has_continuous_aggregates)


def _community(engine: Engine) -> bool:
    return engine.has_continuous_aggregates


def _any_timescaledb(engine: Engine) -> bool:
    return engine.has_hypertables


def _refreshed_by_daemon(engine: Engine) -> bool:
    return not engine.has_continuous_aggregates


_jobs = _of_database(jobs.read)

CHECKS: tuple[Check[Any], ...] = (
    Check("migrations", "the schema is this version's", _read_migrations, judge_migrations),
    Check("schema", "nothing of it was dropped or changed by hand", _read_schema, judge_schema),
    Check("rights", "the daemon's role may do what the daemon does", _read_rights, judge_rights),
    Check("clock", "the server's clock agrees with this machine's", _of_database(clocks.read), clocks.judge),
    Check("policies", "chunks and policies are as configured", _read_policies, judge_policies, _any_timescaledb),
    Check("refresh windows", "no refresh reaches over dropped rows", _jobs, jobs.judge_windows, _community),
    Check("aggregates", "candles are refreshed on schedule", _jobs, jobs.judge_freshness, _community),
    Check("jobs", "no job fails or is paused", _jobs, jobs.judge_failures, _community),
    Check(
        "marks",
        "the daemon refreshes the candles",
        _of_database(jobs.read_marks),
        jobs.judge_marks,
        _refreshed_by_daemon,
    ),
    Check("indexes", "every index is valid and used", _of_engine(indexes.read), indexes.judge),
    Check("chunks", "chunks are neither too many nor too large", _chunks_of, sizes.judge_chunks, _any_timescaledb),
    Check("compression", "old chunks are compressed, and small", _chunks_of, sizes.judge_compression, _community),
    Check("late data", "rows come on time", _of_engine(lateness.read), lateness.judge),
    Check(
        "disk",
        "how large the database will be",
        lambda examined: growth.read(examined.db, examined.engine, examined.free_bytes),
        growth.judge,
    ),
)
