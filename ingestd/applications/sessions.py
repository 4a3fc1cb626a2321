"""Sessions and refresh tokens: rows of `platform.user_sessions` and `platform.refresh_tokens`, with copies in Redis.

Tables and keys hold the SHA-256 of a token, never the token: who reads either cannot act as somebody else. A hash
without salt and without delay is right for tokens of 128 random bits or more, and only for those.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from ingestd.applications import tables
from ingestd.applications.cache import Cache
from ingestd.storage.database import Database

TTL_S = 60.0
"""How long a copy lives. For so long a session that other SQL has ended may still be found, unless `fresh` is asked
for."""
SHORTEST_TOKEN = 22  # characters: 128 bits in base64
LONGEST_TOKEN = 4096

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Session(msgspec.Struct, frozen=True):
    """A session that is valid. `last_accessed` may be a minute old."""

    user_id: int
    expires_at: Moment
    last_accessed: Moment


class RefreshToken(msgspec.Struct, frozen=True):
    """A refresh token that is valid."""

    user_id: int
    expires_at: Moment


# Times that Python cannot hold are replaced by the nearest that it can.
_SESSION = """
SELECT jsonb_build_object('user_id', user_id, 'expires_at', least(expires_at, '9999-01-01 00:00:00+00'),
                          'last_accessed', greatest(least(coalesce(last_accessed, session.created_at, expires_at),
                                                          '9999-01-01 00:00:00+00'), '1970-01-01 00:00:00+00'))::text
FROM platform.user_sessions AS session JOIN platform.users ON users.id = user_id
WHERE session_token = $1 AND expires_at > now() AND is_active IS NOT FALSE"""
_REFRESH_TOKEN = """
SELECT jsonb_build_object('user_id', user_id, 'expires_at', least(expires_at, '9999-01-01 00:00:00+00'))::text
FROM platform.refresh_tokens JOIN platform.users ON users.id = user_id
WHERE token_hash = $1 AND expires_at > now() AND revoked_at IS NULL AND is_active IS NOT FALSE"""


def new_token() -> str:
    """A token of 256 random bits, of letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """The SHA-256 of a token in hexadecimal: what `session_token` and `token_hash` hold."""
    # What a client sends may have halves of surrogate pairs. It is no token of ours, and still gets an answer.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def session_key(hashed: str) -> str:
    """The key of a session, for `Cache.forget` after SQL of your own."""
    return f"session:{hashed}"


def refresh_token_key(hashed: str) -> str:
    """The key of a refresh token, as `session_key`."""
    return f"refresh_token:{hashed}"


async def open_session(cache: Cache, db: Database, user_id: int, token: str, expires_at: datetime) -> None:
    """Begin a session; a time without a zone is UTC.

    Raises ValueError for a token that may be guessed, DatabaseError if there is no such user.
    """
    hashed = _hash_of_new(token)
    await tables.write(
        db,
        "INSERT INTO platform.user_sessions (user_id, session_token, expires_at) VALUES ($1, $2, $3)",
        user_id,
        hashed,
        _utc(expires_at),
    )
    await cache.forget(session_key(hashed))


async def find_session(cache: Cache, db: Database, token: str, *, fresh: bool = False) -> Session | None:
    """The session of a token; None if there is none, it has expired, or its user is not active.

    `fresh`: ask the table, for what must not rest on a copy.
    """
    if not _may_be_token(token):
        return None
    hashed = token_hash(token)

    async def from_table() -> str | None:
        text: str | None = await tables.value(db, _SESSION, hashed)
        return text

    if fresh:
        text = await from_table()
        return None if text is None else msgspec.json.decode(text, type=Session)
    found = await cache.read(session_key(hashed), Session, db, from_table, lambda copy: _ttl_s(copy.expires_at))
    return found if found is not None and found.expires_at > datetime.now(UTC) else None


async def touch_session(db: Database, token: str) -> None:
    """Note that a session is used: `last_accessed`, at most once a minute. Its copy follows within a minute."""
    await tables.fetch(
        db,
        "UPDATE platform.user_sessions SET last_accessed = now() WHERE session_token = $1"
        " AND (last_accessed IS NULL OR last_accessed < now() - INTERVAL '1 minute')",
        token_hash(token),
    )


async def end_session(cache: Cache, db: Database, token: str) -> bool:
    """End a session. Whether there was one."""
    ended = await tables.write(
        db, "DELETE FROM platform.user_sessions WHERE session_token = $1 RETURNING session_token", token_hash(token)
    )
    await cache.forget(session_key(token_hash(token)))
    return bool(ended)


async def end_sessions_of(cache: Cache, db: Database, user_id: int) -> int:
    """End every session and revoke every refresh token of a user, as after a new password. How many sessions."""
    revoked = await tables.write(
        db,
        "UPDATE platform.refresh_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL"
        " RETURNING token_hash",
        user_id,
    )
    await cache.forget(*(refresh_token_key(row["token_hash"]) for row in revoked))
    ended = await tables.write(
        db, "DELETE FROM platform.user_sessions WHERE user_id = $1 RETURNING session_token", user_id
    )
    await cache.forget(*(session_key(row["session_token"]) for row in ended))
    return len(ended)


async def store_refresh_token(cache: Cache, db: Database, user_id: int, token: str, expires_at: datetime) -> None:
    """Store a refresh token; `expires_at` and errors as for `open_session`."""
    hashed = _hash_of_new(token)
    await tables.write(
        db,
        "INSERT INTO platform.refresh_tokens (user_id, token_hash, expires_at) VALUES ($1, $2, $3)",
        user_id,
        hashed,
        _utc(expires_at),
    )
    await cache.forget(refresh_token_key(hashed))


async def find_refresh_token(cache: Cache, db: Database, token: str) -> RefreshToken | None:
    """The refresh token; None if it is unknown, expired or revoked, or its user is not active."""
    if not _may_be_token(token):
        return None
    hashed = token_hash(token)

    async def from_table() -> str | None:
        text: str | None = await tables.value(db, _REFRESH_TOKEN, hashed)
        return text

    found = await cache.read(
        refresh_token_key(hashed), RefreshToken, db, from_table, lambda copy: _ttl_s(copy.expires_at)
    )
    return found if found is not None and found.expires_at > datetime.now(UTC) else None


async def revoke_refresh_token(cache: Cache, db: Database, token: str) -> bool:
    """Revoke a refresh token. True for one caller alone: so a token is exchanged for a new one only once."""
    revoked = await tables.write(
        db,
        "UPDATE platform.refresh_tokens SET revoked_at = now()"
        " WHERE token_hash = $1 AND revoked_at IS NULL AND expires_at > now() RETURNING token_hash",
        token_hash(token),
    )
    await cache.forget(refresh_token_key(token_hash(token)))
    return bool(revoked)


def _hash_of_new(token: str) -> str:
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise ValueError(f"a token has {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters: make it with new_token()")
    return token_hash(token)


def _may_be_token(token: str) -> bool:
    return len(token) <= LONGEST_TOKEN


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _ttl_s(expires_at: datetime) -> float:
    return min(TTL_S, (expires_at - datetime.now(UTC)).total_seconds())
