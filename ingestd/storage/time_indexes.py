"""An index by time alone on each table that `database.time_indexes` names, made and dropped while daemons store.

A table gets it by CREATE INDEX CONCURRENTLY. A hypertable takes no such statement. So first the hypertable alone gets
the index (ONLY), which new chunks then have from their beginning, and after that each chunk gets it CONCURRENTLY.
TimescaleDB's own way, `timescaledb.transaction_per_chunk`, lets nobody store into the chunk that is being indexed, the
newest one among them (measured: docs/operations.md).

An index that was interrupted is there but not valid: it is dropped and made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from ingestd.channels import ROWS
from ingestd.config.models import Config
from ingestd.errors import DatabaseError, SchemaError
from ingestd.failpoints import passing
from ingestd.storage import lock_waits
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migration_steps import locked
from ingestd.storage.session_settings import SCHEMA

log = structlog.get_logger()

TABLES = tuple(row.table for row in ROWS)
_GONE = "42P01"  # retention drops chunks meanwhile
_CHUNKS = (
    "SELECT chunk_schema AS schema, chunk_name AS table FROM timescaledb_information.chunks"
    " WHERE hypertable_schema = $1 AND hypertable_name = $2 ORDER BY range_start DESC"
)
_OWN_STATE = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1::text)"
# Whichever name it has: the server names those of new chunks itself.
_STATE = (
    "SELECT index.relname AS name, indisvalid AS is_valid"
    " FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid"
    " JOIN pg_am ON pg_am.oid = index.relam WHERE indrelid = to_regclass(format('%I.%I', $1::text, $2::text))"
    " AND amname = 'btree' AND indnatts = 1 AND indpred IS NULL AND NOT indisunique"
    " AND indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = indrelid AND attname = 'time')"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that makes or drops an index of one table or chunk. `briefly`: it locks, and for a moment only;
    otherwise it locks nothing and runs outside of transactions."""

    sql: str
    briefly: bool = False


async def converge(db: Database, engine: Engine, config: Config, lock_timeout_s: float) -> list[str]:
    """Make what is named and missing, drop what is not named any more. One line for each table."""
    done = []
    for table in TABLES:
        statements = await _statements(db, engine, config, table)
        for statement in statements:
            await _run(db, statement, table, lock_timeout_s)
            passing("migrate.indexed")
        if statements:
            is_wanted = table in _wanted(config)
            done.append(f"{'made' if is_wanted else 'dropped'} the index {_name(table)} of {table}")
    return done


async def plan(db: Database, engine: Engine, config: Config) -> list[str]:
    """The SQL that `converge` would run now; changes nothing."""
    return [f"{statement.sql};" for table in TABLES for statement in await _statements(db, engine, config, table)]


def _wanted(config: Config) -> Sequence[str]:
    return () if config.database is None else config.database.time_indexes


def _name(table: str) -> str:
    return f"{table}_by_time"


async def _statements(db: Database, engine: Engine, config: Config, table: str) -> list[Statement]:
    is_valid = await db.fetchval(_OWN_STATE, f"{SCHEMA}.{_name(table)}")  # None: it is not there
    if table not in _wanted(config):
        return [] if is_valid is None else [_dropped(table, engine)]
    if not engine.has_hypertables:
        return await _made(db, SCHEMA, table, _name(table))
    statements: list[Statement] = []
    if is_valid is False:
        statements.append(_dropped(table, engine))
    if not is_valid:
        root = f"CREATE INDEX {_name(table)} ON ONLY {SCHEMA}.{table} (time DESC)"
        statements.append(Statement(root, briefly=True))
    for chunk in await db.fetch(_CHUNKS, SCHEMA, table):
        name = f"{chunk['table']}_{_name(table)}"
        statements += await _made(db, chunk["schema"], chunk["table"], name, anew=is_valid is False)
    return statements


def _dropped(table: str, engine: Engine) -> Statement:
    if engine.has_hypertables:  # with those of its chunks
        return Statement(f"DROP INDEX {SCHEMA}.{_name(table)}", briefly=True)
    return Statement(f"DROP INDEX CONCURRENTLY {SCHEMA}.{_name(table)}")


async def _made(db: Database, schema: str, part: str, name: str, *, anew: bool = False) -> list[Statement]:
    """What makes the index of a table or a chunk, unless it is there. `anew`: it will be gone by then."""
    present = [] if anew else await db.fetch(_STATE, schema, part)
    if any(index["is_valid"] for index in present):
        return []
    gone = [f'DROP INDEX CONCURRENTLY "{schema}"."{index["name"]}"' for index in present]
    made = f'CREATE INDEX CONCURRENTLY IF NOT EXISTS "{name}" ON "{schema}"."{part}" (time DESC)'
    return [Statement(sql) for sql in (*gone, made)]


async def _run(db: Database, statement: Statement, table: str, lock_timeout_s: float) -> None:
    try:
        if statement.briefly:
            await lock_waits.retried(
                db, f"the index {_name(table)}", partial(_run_briefly, db, statement.sql, lock_timeout_s)
            )
        else:
            await db.execute(statement.sql)
    except DatabaseError as error:
        if error.sqlstate == _GONE:
            return
        raise SchemaError(
            f"{db.target}: {statement.sql} failed: {error} [{error.sqlstate}]; what is made is kept, and "
            "`ingestd migrate` goes on from there"
        ) from error
    log.info("index_changed", table=table, statement=statement.sql)


async def _run_briefly(db: Database, sql: str, lock_timeout_s: float) -> None:
    async with locked(db, lock_timeout_s, brief=True):
        await db.script(sql)
