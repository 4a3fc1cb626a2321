"""Builds the sink into the database, and checks its section."""

from __future__ import annotations

from collections.abc import Iterator

from ingestd.config.models import Config, DatabaseConfig
from ingestd.errors import ConfigError, Problem, SchemaError
from ingestd.sinks.base import Answer, DurableParts
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.dsn import describe_target
from ingestd.storage.migrate import check_schema
from ingestd.storage.rights import missing_grants


def build(parts: DurableParts) -> TimescaleSink:
    """Build the sink. It stores under the lease `parts.title`, if there is one."""
    assert parts.access is not None  # every role that runs this sink has a database
    return TimescaleSink(
        cursor=parts.cursor,
        journal_ids=parts.journal_ids,
        connect=parts.access.connect_bounded,
        config=parts.config.section(DatabaseConfig),
        metrics=parts.metrics,
        title=parts.title,
        names=parts.access.names,
    )


def problems(config: Config) -> Iterator[Problem]:
    """Report problems of the connection string and of its secret files."""
    try:
        describe_target(config.section(DatabaseConfig).resolved_dsn())
    except ConfigError as error:
        yield from error.problems


async def ask(config: Config) -> Answer:
    """Ask whether the database answers, has this version's schema, and grants the rights that the daemon needs."""
    database = await DatabaseAccess(config).connect_bounded()
    try:
        version = await database.fetchval("SELECT current_setting('server_version')")
        said = f"{database.target}: answered, version {version}"
        try:
            engine = await check_schema(database)
        except SchemaError as error:
            return Answer(said, (str(error).removeprefix(f"{database.target}: "),))
        grants = await missing_grants(database, engine)
    finally:
        await database.close()
    said += f", engine {engine.value}, schema up to date"
    return Answer(said, tuple(f"a right is missing: {grant}" for grant in grants))
