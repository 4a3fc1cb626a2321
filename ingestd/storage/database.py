"""One connection to PostgreSQL through asyncpg: transactions, COPY, and errors in our own classes.

Every call has one of three outcomes:

- it returns: the server did it;
- it raises `DatabaseError`: the server refused it and said why (SQLSTATE, CONTEXT, DETAIL);
- it raises `ConnectionLost`: the connection was terminated, and what was sent may or may not be committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeAlias

import asyncpg

from ingestd.errors import ConnectionLost, DatabaseError, IngestdError
from ingestd.storage import refusals, session_settings
from ingestd.storage.dialling import NO_ANSWER, first_line, first_that_serves
from ingestd.storage.dsn import Target, describe_target
from ingestd.venues.market_names import Names

Row: TypeAlias = Mapping[str, Any]

_CLOSE_TIMEOUT_S = 2.0
_IN_TRANSACTION = "25001"  # of a statement that the server runs outside of transactions only
_CONNECTION_ENDS = ("08", "57P")  # SQLSTATE classes


class Database:
    """One connection. Not shared between tasks: a second statement while one runs is refused by the driver.

    Works through PgBouncer in transaction mode: no prepared statement outlives its call, and every setting is made with
    SET LOCAL inside a transaction (`session_settings`). A statement outside of `transaction()` gets a transaction of
    its own, so that settings of the role or the database do not change its meaning.
    """

    def __init__(
        self,
        connection: Any,
        target: Target,
        *,
        lock_timeout_s: float | None,
        call_timeout_s: float | None,
        names: Names | None = None,
    ) -> None:
        self._connection = connection
        self._call_timeout_s = call_timeout_s
        self._lock_timeout_s = lock_timeout_s
        self.target = target
        """Where this connection goes, for messages (without the password)."""
        self.names = Names() if names is None else names
        """Translates unified symbols to the names that the tables hold, and back."""
        self.extension_schema = session_settings.SCHEMA  # where TimescaleDB's functions are, once `detect` has asked

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        dsn_from: str = "database.dsn",
        application_name: str = "ingestd",
        connect_timeout_s: float = 5.0,
        lock_timeout_s: float | None = 5.0,
        call_timeout_s: float | None = None,
        names: Names | None = None,
    ) -> Self:
        """Open a connection to the first server of the DSN that serves.

        `dsn_from`: the option that its password came from, for messages.
        `connect_timeout_s`, or the DSN's own limit, holds for each address of each server.
        `lock_timeout_s` holds inside `transaction()`; None: no limit, whatever the server's setting is.
        `call_timeout_s` bounds every call, on this side; None: no limit.
        `names` belong to the style in which the tables hold symbols; None: unified symbols.
        Raises ConfigError for a DSN that cannot be understood, ConnectionLost when nothing answers, DatabaseError
        when the server refuses (password, database, too many connections).
        """
        target = describe_target(dsn, dsn_from)
        name = target.application_name or application_name
        connection, place = await first_that_serves(target, name, target.timeout_s or connect_timeout_s)
        return cls(
            connection, target.at(place), lock_timeout_s=lock_timeout_s, call_timeout_s=call_timeout_s, names=names
        )

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed; it always is after a ConnectionLost."""
        return bool(self._connection.is_closed())

    @property
    def in_transaction(self) -> bool:
        return not self.is_closed and bool(self._connection.is_in_transaction())

    async def fetch(self, sql: str, *args: object) -> Sequence[Row]:
        """Every row. Parameters are `$1`, `$2`, …; NUMERIC comes as Decimal, JSONB as text."""
        async with self._seam(), self._in_transaction():
            rows: Sequence[Row] = await self._connection.fetch(sql, *args)
        return rows

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        """The first row, or None."""
        async with self._seam(), self._in_transaction():
            row: Row | None = await self._connection.fetchrow(sql, *args)
        return row

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        async with self._seam(), self._in_transaction():
            return await self._connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement, and return the number of rows it touched (0 where the command counts none).

        A statement that cannot run inside a transaction (`CALL refresh_continuous_aggregate`, `CREATE DATABASE`) runs
        outside of one. It must name every schema itself, since no setting can be made for it behind a pooler.
        """
        try:
            async with self._seam(), self._in_transaction():
                return await self._execute(sql, args)
        except DatabaseError as error:
            if error.sqlstate != _IN_TRANSACTION or self.in_transaction:
                raise
        async with self._seam():
            if not await self._is_pooled():
                await self._connection.execute(
                    session_settings.for_session(self._server_version, self.extension_schema)
                )
            return await self._execute(sql, args)

    async def script(self, sql: str) -> None:
        """Run several statements, separated by semicolons, in one transaction."""
        await self.execute(sql)

    async def copy_text(
        self, table: str, columns: Sequence[str], payload: bytes | AsyncIterable[bytes], *, schema: str | None = None
    ) -> int:
        """COPY rows that are already in PostgreSQL's text format into a table; return the number of rows stored.

        A DatabaseError's `context` names the row (`errors.copy_line`).
        """
        # asyncpg would take bytes for the path of a file: it calls os.fspath() first.
        source = memoryview(payload) if isinstance(payload, bytes) else payload
        async with self._seam(f"COPY {table} FROM STDIN"), self._in_transaction():
            copied = await self._connection.copy_to_table(
                table, schema_name=schema, columns=list(columns), source=source
            )
        return _row_count(copied)

    async def copy_csv(self, query: str, *args: object) -> bytes:
        """The rows of a query as CSV with a header line, all in memory."""
        text = bytearray()

        async def take(block: bytes) -> None:
            text.extend(block)

        async with self._seam("COPY query TO STDOUT"), self._in_transaction():
            await self._connection.copy_from_query(query, *args, output=take, format="csv", header=True)
        return bytes(text)

    @asynccontextmanager
    async def transaction(self, *, lock_timeout_s: float | None = None) -> AsyncIterator[None]:
        """A transaction: committed when the block ends, rolled back when it raises.

        `lock_timeout_s` replaces the connection's own. If the block is cancelled, the connection is terminated, since a
        statement may still be running. ConnectionLost at the end of the block means: perhaps committed.
        """
        if self.in_transaction:
            raise RuntimeError("transactions do not nest")
        async with self._own_transaction(self._lock_timeout_s if lock_timeout_s is None else lock_timeout_s):
            yield

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the running transaction that is rolled back alone if the block raises a DatabaseError."""
        await self.script("SAVEPOINT ingestd")
        try:
            yield
        except DatabaseError:
            await self.script("ROLLBACK TO SAVEPOINT ingestd; RELEASE SAVEPOINT ingestd")
            raise
        await self.script("RELEASE SAVEPOINT ingestd")

    def terminate(self) -> None:
        """Close the socket at once, without telling the server."""
        self._connection.terminate()

    async def close(self) -> None:
        """Close the connection orderly, within two seconds. Never raises."""
        if not self.is_closed:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._connection.close()
            except (*NO_ANSWER, asyncpg.PostgresError):
                self.terminate()
        await asyncio.sleep(0)  # a terminated connection closes its socket in the next turn, and the loop may end here

    @asynccontextmanager
    async def _in_transaction(self) -> AsyncIterator[None]:
        """The running transaction, or one for this call alone, where only `call_timeout_s` limits waits for locks."""
        if self.in_transaction:
            yield
        else:
            async with self._own_transaction(None):
                yield

    @asynccontextmanager
    async def _own_transaction(self, lock_timeout_s: float | None) -> AsyncIterator[None]:
        await self._begin(lock_timeout_s)
        try:
            yield
        except asyncio.CancelledError:
            await self._abandon()
            raise
        except BaseException:
            await self._rollback()
            raise
        try:
            await self._commit()
        except asyncio.CancelledError:
            await self._abandon()
            raise

    async def _begin(self, lock_timeout_s: float | None) -> None:
        begin = session_settings.begin(self._server_version, self.extension_schema, lock_timeout_s)
        try:
            async with self._seam():
                await self._connection.execute(begin)
        except asyncio.CancelledError:
            self.terminate()
            raise
        except DatabaseError:
            await self._rollback()
            raise

    async def _abandon(self) -> None:
        """Drop the connection; a statement without a time limit, such as a migration, is cancelled first."""
        if self._call_timeout_s is None:
            await self.close()
        self.terminate()

    @property
    def _server_version(self) -> int:
        return int(self._connection.get_server_version().major)

    async def _is_pooled(self) -> bool:
        """Whether strangers share this session through a pooler, which invents the number of the server's process."""
        known = self._connection.get_server_pid()
        return bool(await self._connection.fetchval("SELECT pg_catalog.pg_backend_pid()") != known)

    async def _execute(self, sql: str, args: Sequence[object]) -> int:
        if not args:
            return _row_count(await self._connection.execute(sql))
        # asyncpg's execute() with arguments always reports the tag of one row; fetch keeps the real one.
        statement = await self._connection.prepare(sql)
        await statement.fetch(*args)
        return _row_count(statement.get_statusmsg())

    async def _commit(self) -> None:
        async with self._seam():
            tag = await self._connection.execute("COMMIT")
        if tag != "COMMIT":
            # If a statement failed and its error was swallowed, the server answers ROLLBACK and no error.
            raise DatabaseError("the transaction had failed and was rolled back", sqlstate="25P02")

    async def _rollback(self) -> None:
        if self.is_closed:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._connection.execute("ROLLBACK")
        except (*NO_ANSWER, asyncpg.PostgresError):
            self.terminate()

    @asynccontextmanager
    async def _seam(self, statement: str = "") -> AsyncIterator[None]:
        try:
            # asyncpg's own timeout does not bound a COPY that the server stopped reading.
            async with asyncio.timeout(self._call_timeout_s):
                yield
        except asyncpg.PostgresError as exc:
            if (exc.sqlstate or "").startswith(_CONNECTION_ENDS):
                self.terminate()
            raise _server_error(exc, self.target, statement) from exc
        except NO_ANSWER as exc:
            self.terminate()
            what = "did not answer in time" if isinstance(exc, TimeoutError) else f"is gone ({exc})"
            raise ConnectionLost(f"the connection to {self.target} {what}") from exc


def _row_count(tag: str) -> int:
    """The count at the end of a command tag: `COPY 5000`, `INSERT 0 3`."""
    last = tag.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


def _server_error(exc: asyncpg.PostgresError, target: Target, statement: str) -> IngestdError:
    sqlstate = exc.sqlstate or "XX000"
    if sqlstate.startswith("08"):
        return ConnectionLost(f"the connection to {target} is gone ({exc})")
    message, statement = first_line(exc), statement or getattr(exc, "query", None) or ""
    if (advice := refusals.advice(sqlstate, message, statement, target.user, target.database)) is not None:
        message += f"; {advice} ({target})"
    return DatabaseError(
        message,
        sqlstate=sqlstate,
        context=getattr(exc, "context", None) or "",
        detail=getattr(exc, "detail", None) or "",
    )
