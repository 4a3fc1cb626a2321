"""The repository on SQLAlchemy: sessions on psycopg, and the functions that take one.

The only file that knows SQLAlchemy, which it imports where an engine or a session is made: a program that uses asyncpg
needs none.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ingestd.config import dsn as config_dsn
from ingestd.errors import ConfigError, IngestdError, Problem, SchemaError
from ingestd.repository import arrow, operations
from ingestd.repository.addresses import APPLICATION_NAME, dsn_of
from ingestd.repository.operations import Operation, Query, ResultT
from ingestd.repository.payloads import (
    DEFAULT_EXCHANGE,
    CandlePayload,
    CandleSource,
    FundingPayload,
    OpenInterestPayload,
    StoredCandle,
    StoredFunding,
    StoredOpenInterest,
    StoredTrade,
    TradePayload,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

_CONNECT_TIMEOUT_S = 5
_NO_SUCH_TABLE = "42P01"
# libpq waits for ever for a server that is gone, unless the system is told to find out.
_SILENCE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}

# An engine must not be used in a child of the process that made it: hence the process's id.
_engines: dict[tuple[int, str], Engine] = {}
_engines_lock = threading.Lock()


def make_engine(
    dsn: str | None = None,
    *,
    pool_size: int = 10,
    max_overflow: int = 20,
    pool_recycle_s: int = 3600,
    pool_timeout_s: float = 30.0,
) -> Engine:
    """Make an engine with a pool of its own, of which each connection is tried before it is used.

    `dsn`: a URL or key=value words; None: that of the variable DATABASE_URL. Raises ConfigError if it has a mistake, or
    if SQLAlchemy or psycopg is not installed.
    """
    parameters = _connect_arguments(dsn_of(dsn))
    try:
        import psycopg  # noqa: F401  # SQLAlchemy imports it later, with a message that names no remedy
        import sqlalchemy
    except ImportError as error:
        hint = "install the extra sqlalchemy of ingestd"
        raise ConfigError(
            [Problem("ingestd.repository", f"needs SQLAlchemy and psycopg: {error}", hint=hint)]
        ) from error
    return sqlalchemy.create_engine(
        "postgresql+psycopg://",
        connect_args=parameters,
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_recycle=pool_recycle_s,
        pool_timeout=pool_timeout_s,
    )


@contextmanager
def session_scope(dsn: str | None = None, *, engine: Engine | None = None) -> Iterator[Session]:
    """A session: what it did is committed when the block ends, and rolled back when the block raises.

    Scopes of one DSN share an engine with the default pool; `engine` replaces it.
    """
    chosen = _engine_of(dsn) if engine is None else engine
    from sqlalchemy.orm import Session

    with Session(chosen) as session:
        try:
            yield session
            session.commit()
        except BaseException:
            session.rollback()
            raise


def dispose_engines() -> None:
    """Close the pools of all engines that `session_scope` has made."""
    with _engines_lock:
        engines = [engine for (process, _), engine in _engines.items() if process == os.getpid()]
        _engines.clear()
    for engine in engines:
        engine.dispose()


def upsert_candles(session: Session, payloads: Iterable[CandlePayload]) -> int:
    """Store candles of one minute in `ohlcv_data`; a candle that is there is replaced. Return how many changed.

    As every function here: it does not commit, and raises PayloadError for what no table takes, MarketUnknown for a
    name of no market, SchemaError if the database lacks the tables or renames its symbols.
    """
    return _run(session, operations.upsert_candles(payloads))


def upsert_trades(session: Session, payloads: Iterable[TradePayload]) -> int:
    """Store trades; one that is there stays as it is. Return how many are new."""
    return _run(session, operations.upsert_trades(payloads))


def upsert_open_interest(session: Session, payloads: Iterable[OpenInterestPayload]) -> int:
    """Store open interest; a snapshot that is there is replaced. Return how many changed."""
    return _run(session, operations.upsert_open_interest(payloads))


def upsert_funding(session: Session, payloads: Iterable[FundingPayload]) -> int:
    """Store funding rates; one that is there is replaced. Return how many changed."""
    return _run(session, operations.upsert_funding(payloads))


def fetch_candles(
    session: Session,
    symbol: str,
    start: datetime,
    end: datetime,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    prefer: CandleSource = "trades",
) -> list[StoredCandle]:
    """Candles of one minute that begin from `start` to `end`, both included, the oldest first.

    They are made of trades (`candles_1m`) or were reported (`ohlcv_data`); of a minute that has both, `prefer` counts.
    """
    return _run(session, operations.fetch_candles(symbol, start, end, exchange, prefer))


def recent_trades(
    session: Session, symbol: str, limit: int = 100, *, exchange: str = DEFAULT_EXCHANGE
) -> list[StoredTrade]:
    """The last trades, the newest first."""
    return _run(session, operations.recent_trades(symbol, limit, exchange))


def latest_open_interest(
    session: Session, symbol: str, *, exchange: str = DEFAULT_EXCHANGE
) -> StoredOpenInterest | None:
    """The newest open interest of a market; None if there is none."""
    return _run(session, operations.latest_open_interest(symbol, exchange))


def latest_funding(session: Session, symbol: str, *, exchange: str = DEFAULT_EXCHANGE) -> StoredFunding | None:
    """The newest funding rate of a market; None if there is none."""
    return _run(session, operations.latest_funding(symbol, exchange))


def arrow_candles(
    session: Session,
    symbol: str,
    start: datetime,
    end: datetime,
    *,
    exchange: str = DEFAULT_EXCHANGE,
    prefer: CandleSource = "trades",
) -> Any:
    """As `fetch_candles`, as a `pyarrow.Table` with exact decimals. Needs the extra `arrow`."""
    return _arrow(session, StoredCandle, symbol, start, end, exchange, prefer)


def arrow_trades(
    session: Session, symbol: str, start: datetime, end: datetime, *, exchange: str = DEFAULT_EXCHANGE
) -> Any:
    """The trades from `start` to `end`, both included, the oldest first, as `arrow_candles` gives candles."""
    return _arrow(session, StoredTrade, symbol, start, end, exchange)


def arrow_open_interest(
    session: Session, symbol: str, start: datetime, end: datetime, *, exchange: str = DEFAULT_EXCHANGE
) -> Any:
    """The open interest from `start` to `end`, both included, the oldest first, as `arrow_candles` gives candles."""
    return _arrow(session, StoredOpenInterest, symbol, start, end, exchange)


def arrow_funding(
    session: Session, symbol: str, start: datetime, end: datetime, *, exchange: str = DEFAULT_EXCHANGE
) -> Any:
    """The funding rates from `start` to `end`, both included, the oldest first, as `arrow_candles` gives candles."""
    return _arrow(session, StoredFunding, symbol, start, end, exchange)


def _engine_of(dsn: str | None) -> Engine:
    key = os.getpid(), dsn_of(dsn)
    with _engines_lock:
        if key not in _engines:
            _engines[key] = make_engine(key[1])
        return _engines[key]


def _connect_arguments(dsn: str) -> dict[str, Any]:
    """The DSN's parameters, which libpq names as we do, and what it leaves out."""
    given = config_dsn.read(dsn)
    several = "," in given.get("host", "") + given.get("hostaddr", "")
    return {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": APPLICATION_NAME,
        "target_session_attrs": "read-write" if several else "any",
        **_SILENCE,
        # A prepared statement would not outlive its transaction behind a pooler.
        "prepare_threshold": None,
        **given,
    }


def _run(session: Session, operation: Operation[ResultT]) -> ResultT:
    """Send each query of an operation within the session's transaction."""
    from sqlalchemy.exc import ProgrammingError

    try:
        query = next(operation)
        while True:
            # The driver's own placeholders: SQLAlchemy would take the colons of casts for parameters.
            result = session.connection().exec_driver_sql(_pyformat(query.sql), _parameters(query))
            query = operation.send([dict(row) for row in result.mappings()])
    except StopIteration as end:
        value: ResultT = end.value
        return value
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == _NO_SUCH_TABLE:
            raise SchemaError(f"the schema is not set up ({error.orig}): run `ingestd migrate`") from error
        raise


def _arrow(
    session: Session,
    kind: type,
    symbol: str,
    start: datetime,
    end: datetime,
    exchange: str,
    prefer: CandleSource = "trades",
) -> Any:
    market = _run(session, operations.located(exchange, symbol))
    query = operations.between(kind, market, start, end, prefer)
    driver: Any = session.connection().connection.driver_connection
    text = BytesIO()
    with driver.cursor() as cursor:
        if not hasattr(cursor, "copy"):
            raise IngestdError("Arrow tables need a session on psycopg 3: its URL begins with postgresql+psycopg://")
        statement = f"COPY ({arrow.as_texts(kind, query.sql)}) TO STDOUT (FORMAT csv, HEADER)"
        with cursor.copy(_pyformat(statement), _parameters(query)) as copy:
            for block in copy:
                text.write(block)
    return arrow.table(kind, exchange, symbol, text.getbuffer())


@cache
def _pyformat(sql: str) -> str:
    """The text with psycopg's placeholders instead of the server's."""
    return re.sub(r"\$(\d+)", r"%(p\1)s", sql.replace("%", "%%"))


def _parameters(query: Query) -> dict[str, object]:
    return {f"p{number}": value for number, value in enumerate(query.values, 1)}
