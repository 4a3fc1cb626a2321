"""Exchange connections: rows of `platform.exchange_connections`, whose API keys and secrets are sealed.

A secret is bound to its row: id, user and exchange. So a row whose user or exchange is changed by other SQL cannot be
read any more; put it anew. No cache holds a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ingestd.applications import tables
from ingestd.applications.keys import Keys
from ingestd.applications.sealing import Place, key_id_of, seal, unseal
from ingestd.config.secrets import hide
from ingestd.errors import SealBroken
from ingestd.storage.database import Database, Row

BATCH_ROWS = 100
REASONS_KEPT = 20
LONGEST_NAME = 128
BEFORE_ALL = -(2**31) - 1
"""Below every id."""

_KEY, _SECRET = "api_key_encrypted", "api_secret_encrypted"
_COLUMNS = f"id, user_id, exchange_name, coalesce(is_active, false) AS is_active, {_KEY}, {_SECRET}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an exchange gives to its user. Neither is shown by `repr`."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Connection:
    """A user's account on an exchange."""

    id: int
    user_id: int | None
    exchange: str
    is_active: bool
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Listed:
    """A connection without its secrets. `key_ids`: the keys that encrypted them; None: not of our form."""

    id: int
    user_id: int | None
    exchange: str
    is_active: bool
    key_ids: tuple[str | None, ...]
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rotated:
    """Counts of a rotation: connections encrypted anew, those that had the writing key already, and those that could
    not be read and stay as they are, with the reasons of the first `REASONS_KEPT`."""

    again: int = 0
    already: int = 0
    unreadable: int = 0
    reasons: tuple[str, ...] = ()

    def __add__(self, other: Rotated) -> Rotated:
        return Rotated(
            self.again + other.again,
            self.already + other.already,
            self.unreadable + other.unreadable,
            (self.reasons + other.reasons)[:REASONS_KEPT],
        )


async def user_of(db: Database, username: str) -> int | None:
    """The id of a user; None if there is none of this name."""
    found: int | None = await tables.value(db, "SELECT id FROM platform.users WHERE username = $1", username)
    return found


async def put_connection(db: Database, keys: Keys, user_id: int, exchange: str, credentials: Credentials) -> int:
    """Store a connection, and return its id. Raises DatabaseError if there is no such user.

    As every function here that writes: in an open transaction it takes part in it.
    """
    _require_exchange(exchange)
    new_id: int = await tables.value(
        db, "SELECT nextval(pg_get_serial_sequence('platform.exchange_connections', 'id'))::integer"
    )
    await tables.fetch(
        db,
        f"INSERT INTO platform.exchange_connections (id, user_id, exchange_name, {_KEY}, {_SECRET})"  # noqa: S608 # names
        " VALUES ($1, $2, $3, $4, $5)",
        new_id,
        user_id,
        exchange,
        *_sealed(credentials, keys, new_id, user_id, exchange),
    )
    return new_id


async def replace_credentials(db: Database, keys: Keys, connection_id: int, credentials: Credentials) -> bool:
    """Give a connection other credentials. Whether there is one of this id."""
    rows = await tables.fetch(
        db, "SELECT user_id, exchange_name FROM platform.exchange_connections WHERE id = $1", connection_id
    )
    if not rows:
        return False
    user_id, exchange = rows[0]["user_id"], rows[0]["exchange_name"]
    changed = await tables.fetch(
        db,
        f"UPDATE platform.exchange_connections SET {_KEY} = $4, {_SECRET} = $5, updated_at = now()"  # noqa: S608 # names
        " WHERE id = $1 AND user_id IS NOT DISTINCT FROM $2 AND exchange_name = $3 RETURNING id",
        connection_id,
        user_id,
        exchange,
        *_sealed(credentials, keys, connection_id, user_id, exchange),
    )
    return bool(changed)


async def read_connection(db: Database, keys: Keys, connection_id: int) -> Connection | None:
    """A connection with its credentials; None if there is none of this id. Raises SealBroken.

    From then on the credentials are masked in everything that ingestd logs.
    """
    rows = await tables.fetch(
        db, f"SELECT {_COLUMNS} FROM platform.exchange_connections WHERE id = $1", connection_id  # noqa: S608 # names
    )  # fmt: skip
    return _opened(rows[0], keys) if rows else None


async def connections_of(
    db: Database, keys: Keys, user_id: int, exchange: str | None = None, limit: int = 1000
) -> list[Connection]:
    """The active connections of a user, the oldest first, as `read_connection` gives them."""
    rows = await tables.fetch(
        db,
        f"SELECT {_COLUMNS} FROM platform.exchange_connections"  # noqa: S608 # names of columns
        " WHERE user_id = $1 AND ($2::text IS NULL OR exchange_name = $2) AND is_active ORDER BY id LIMIT $3",
        user_id,
        exchange,
        limit,
    )
    return [_opened(row, keys) for row in rows]


async def remove_connection(db: Database, connection_id: int) -> bool:
    """Delete a connection. Whether there was one."""
    return bool(
        await tables.fetch(
            db, "DELETE FROM platform.exchange_connections WHERE id = $1 RETURNING id", connection_id
        )
    )  # fmt: skip


async def list_connections(db: Database, after_id: int = BEFORE_ALL, limit: int = 1000) -> list[Listed]:
    """Connections without their secrets, by id, those above `after_id`."""
    rows = await tables.fetch(
        db,
        f"SELECT {_COLUMNS}, updated_at FROM platform.exchange_connections"  # noqa: S608 # names of columns
        " WHERE id > $1::bigint ORDER BY id LIMIT $2",
        after_id,
        limit,
    )
    return [
        Listed(
            row["id"],
            row["user_id"],
            row["exchange_name"],
            row["is_active"],
            tuple(found.hex() if (found := key_id_of(row[column])) else None for column in (_KEY, _SECRET)),
            row["updated_at"],
        )
        for row in rows
    ]


async def rotate(db: Database, keys: Keys, on_batch: Callable[[Rotated], None] = lambda _: None) -> Rotated:
    """Encrypt every connection with the writing key, in batches by id, each in a transaction of its own.

    It may end at any point: a row has its old ciphertexts or its new ones, and a second run does the rest. Raises
    RuntimeError in an open transaction.
    """
    tables.require_no_transaction(db)
    done, last_id = Rotated(), BEFORE_ALL
    while True:
        async with db.transaction():
            rows = await tables.fetch(
                db,
                f"SELECT {_COLUMNS} FROM platform.exchange_connections"  # noqa: S608 # names of columns
                " WHERE id > $1::bigint ORDER BY id LIMIT $2 FOR NO KEY UPDATE",
                last_id,
                BATCH_ROWS,
            )
            batch = await _rotated(db, keys, rows)
        if not rows:
            return done
        last_id = rows[-1]["id"]
        done += batch
        on_batch(done)


async def _rotated(db: Database, keys: Keys, rows: Sequence[Row]) -> Rotated:
    done = Rotated()
    for row in rows:
        if all(key_id_of(row[column]) == keys.writing.id for column in (_KEY, _SECRET)):
            done += Rotated(already=1)
            continue
        try:
            credentials = _unsealed(row, keys)
        except SealBroken as error:
            done += Rotated(unreadable=1, reasons=(str(error),))
            continue
        await tables.fetch(
            db,
            f"UPDATE platform.exchange_connections SET {_KEY} = $2, {_SECRET} = $3 WHERE id = $1",  # noqa: S608 # names
            row["id"],
            *_sealed(credentials, keys, row["id"], row["user_id"], row["exchange_name"]),
        )
        done += Rotated(again=1)
    return done


def _sealed(
    credentials: Credentials, keys: Keys, connection_id: int, user_id: int | None, exchange: str
) -> tuple[bytes, bytes]:
    return (
        seal(credentials.api_key, keys, Place(_KEY, connection_id, user_id, exchange)),
        seal(credentials.api_secret, keys, Place(_SECRET, connection_id, user_id, exchange)),
    )


def _unsealed(row: Row, keys: Keys) -> Credentials:
    of_row = row["id"], row["user_id"], row["exchange_name"]
    return Credentials(*(unseal(row[column], keys, Place(column, *of_row)) for column in (_KEY, _SECRET)))


def _opened(row: Row, keys: Keys) -> Connection:
    credentials = _unsealed(row, keys)
    hide(credentials.api_key)
    hide(credentials.api_secret)
    return Connection(row["id"], row["user_id"], row["exchange_name"], row["is_active"], credentials)


def _require_exchange(exchange: str) -> None:
    if not 0 < len(exchange) <= LONGEST_NAME or not exchange.isprintable():
        raise ValueError(f"the name of an exchange has 1 to {LONGEST_NAME} printable characters")
