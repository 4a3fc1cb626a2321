"""Exchange connections: stored encrypted, bound to their rows, rotated without losing one, wherever it is killed."""

from __future__ import annotations

import pytest

from ingestd import applications as apps
from ingestd.applications import Credentials, Key, Keys
from ingestd.config.secrets import redact
from ingestd.errors import DatabaseError, SealBroken
from ingestd.storage.database import Database

OLD, NEW = Key(bytes(range(32))), Key(bytes(range(32, 64)))
SECRETS = Credentials("pub-4711Zx9qKey", "sec-4711Zx9qSecret")


def numbered(number: int) -> Credentials:
    return Credentials(f"key {number}", f"secret {number}")


async def stored(db: Database) -> list[tuple[bytes, bytes]]:
    rows = await db.fetch(
        "SELECT api_key_encrypted, api_secret_encrypted FROM platform.exchange_connections ORDER BY id"
    )
    return [(row["api_key_encrypted"], row["api_secret_encrypted"]) for row in rows]


async def test_what_is_put_is_read_and_nowhere_in_the_clear(db: Database) -> None:
    keys = Keys(NEW)
    first = await apps.put_connection(db, keys, 7, "binance", SECRETS)
    second = await apps.put_connection(db, keys, 7, "kraken", SECRETS)
    await apps.put_connection(db, keys, 8, "binance", SECRETS)
    found = await apps.read_connection(db, keys, first)
    assert found is not None
    assert (found.id, found.user_id, found.exchange, found.is_active) == (first, 7, "binance", True)
    assert found.credentials == SECRETS
    for shown in (repr(found), repr(SECRETS), str([found]), redact("refused: sec-4711Zx9qSecret")):
        assert "4711Zx9q" not in shown
    assert not any(b"4711" in text for row in await stored(db) for text in row)
    assert len({text for row in await stored(db) for text in row}) == 6  # the same secrets, each time other bytes
    assert [one.id for one in await apps.connections_of(db, keys, 7)] == [first, second]
    assert [one.id for one in await apps.connections_of(db, keys, 7, "kraken")] == [second]
    await db.execute("UPDATE platform.exchange_connections SET is_active = false WHERE id = $1", second)
    assert [one.id for one in await apps.connections_of(db, keys, 7)] == [first]
    assert await apps.replace_credentials(db, keys, first, numbered(1))
    found = await apps.read_connection(db, keys, first)
    assert found is not None
    assert found.credentials == numbered(1)
    assert await apps.remove_connection(db, first)
    assert await apps.read_connection(db, keys, first) is None
    assert not await apps.remove_connection(db, first)
    assert not await apps.replace_credentials(db, keys, first, SECRETS)
    with pytest.raises(DatabaseError):
        await apps.put_connection(db, keys, 99, "binance", SECRETS)
    for exchange in ("", "x" * 129, "a\n"):
        with pytest.raises(ValueError, match="the name of an exchange"):
            await apps.put_connection(db, keys, 7, exchange, SECRETS)
    async with db.transaction():  # takes part in it
        await apps.put_connection(db, keys, 7, "okx", SECRETS)


CHANGES = [
    "UPDATE platform.exchange_connections SET user_id = 8",
    "UPDATE platform.exchange_connections SET user_id = NULL",
    "UPDATE platform.exchange_connections SET exchange_name = 'kraken'",
    "UPDATE platform.exchange_connections SET id = id + 100",
    "UPDATE platform.exchange_connections SET api_key_encrypted = api_secret_encrypted",
    "UPDATE platform.exchange_connections SET api_secret_encrypted = substr(api_secret_encrypted, 1, 30)",
    "UPDATE platform.exchange_connections SET api_key_encrypted = 'plain'",
    "UPDATE platform.exchange_connections SET api_key_encrypted = other.api_key_encrypted FROM"
    " platform.exchange_connections AS other WHERE other.id <> exchange_connections.id",
]


async def test_what_is_moved_or_changed_is_refused(db: Database) -> None:
    keys = Keys(NEW)
    for change in CHANGES:
        await db.execute("DELETE FROM platform.exchange_connections")
        ids = [await apps.put_connection(db, keys, 7, "binance", SECRETS) for _ in range(2)]
        await db.execute(change)
        shift = 100 if "id + 100" in change else 0
        for connection_id in ids:
            with pytest.raises(SealBroken, match=f"of the connection {connection_id + shift}: ") as caught:
                await apps.read_connection(db, keys, connection_id + shift)
            assert "4711" not in str(caught.value), change
        before = await stored(db)
        done = await apps.rotate(db, Keys(OLD, [NEW]))
        assert (done.again, done.already, done.unreadable, len(done.reasons)) == (0, 0, 2, 2), change
        assert await stored(db) == before


class Failing(Keys):
    """Keys of which the writing one fails when it is asked for the n-th time."""

    def __init__(self, calls: int) -> None:
        super().__init__(NEW, [OLD])
        self._left = calls

    @property
    def writing(self) -> Key:
        self._left -= 1
        if self._left < 0:
            raise ConnectionError("killed")
        return NEW

    @writing.setter
    def writing(self, key: Key) -> None:
        """Is what it is."""


async def test_a_rotation_that_is_killed_anywhere_loses_nothing(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.applications.connections.BATCH_ROWS", 3)
    old, both = Keys(OLD), Keys(NEW, [OLD])
    ids = [await apps.put_connection(db, old, 7, "binance", numbered(number)) for number in range(10)]
    await db.execute("UPDATE platform.exchange_connections SET id = -5 WHERE id = $1", ids[0])  # not of ours any more
    kills = 0
    for calls in range(0, 60, 4):
        try:
            await apps.rotate(db, Failing(calls))
        except ConnectionError:
            kills += 1
        for number, connection_id in list(enumerate(ids))[1:]:
            found = await apps.read_connection(db, both, connection_id)
            assert found is not None
            assert found.credentials == numbered(number)
    assert kills > 3
    counts = await apps.rotate(db, both)
    assert (counts.again, counts.already, counts.unreadable) == (0, 9, 1)
    # The old key is not needed any more, and what it wrote is not readable with the new one alone.
    assert (await apps.read_connection(db, Keys(NEW), ids[1])) is not None
    assert {key_ids for one in (await apps.list_connections(db))[1:] for key_ids in one.key_ids} == {NEW.id.hex()}
    with pytest.raises(SealBroken, match=f"encrypted with the key {NEW.id.hex()}, which is not given"):
        await apps.read_connection(db, old, ids[1])


async def test_a_rotation_tells_how_far_it_is_and_keeps_what_else_changes(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestd.applications.connections.BATCH_ROWS", 10)
    old, both = Keys(OLD), Keys(NEW, [OLD])
    ids = [await apps.put_connection(db, old, 7, "binance", numbered(number)) for number in range(25)]
    await db.execute("UPDATE platform.exchange_connections SET updated_at = '2026-01-01', is_active = id % 5 = 0")
    seen: list[apps.Rotated] = []
    done = await apps.rotate(db, both, seen.append)
    assert [one.again for one in seen] == [10, 20, 25]
    assert done == seen[-1]
    rows = await db.fetch("SELECT DISTINCT updated_at::date::text AS day FROM platform.exchange_connections")
    assert [row["day"] for row in rows] == ["2026-01-01"]
    assert await db.fetchval("SELECT count(*) FROM platform.exchange_connections WHERE is_active") == 5
    assert await apps.list_connections(db, ids[-3]) == (await apps.list_connections(db))[-2:]
    with pytest.raises(RuntimeError, match="a transaction is open"):
        async with db.transaction():
            await apps.rotate(db, both)
