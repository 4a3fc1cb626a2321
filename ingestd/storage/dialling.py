"""Makes a connection: tries the servers of a DSN and the addresses of each one by one, with TLS or without.

It and `database` are the only files that talk to asyncpg.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import asyncpg

from ingestd.config.dsn import EXAMPLE
from ingestd.errors import ConfigError, ConnectionLost, DatabaseError, IngestdError, Problem
from ingestd.storage import refusals
from ingestd.storage.dsn import Place, Target, addresses

# A connection that dies under uvloop in the middle of a COPY raises RuntimeError or InternalClientError.
NO_ANSWER = (OSError, EOFError, TimeoutError, RuntimeError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# A server that starts, stops, or has no connection left: the next may serve. A wrong password is wrong there too.
_NEXT_SERVER = ("53", "57", "58")


async def first_that_serves(target: Target, name: str, timeout_s: float) -> tuple[Any, Place]:
    """Connect to the first server that serves. asyncpg gets one at a time: its limit would cover all together."""
    errors: list[IngestdError] = []
    for place in target.in_order():
        try:
            return await _to_place(target.at(place), place, name, timeout_s), place
        except (ConnectionLost, DatabaseError) as error:
            if isinstance(error, DatabaseError) and not error.sqlstate.startswith(_NEXT_SERVER):
                raise
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise ConnectionLost("no server of database.dsn can be used:\n" + "\n".join(map(str, errors)))


async def _to_place(target: Target, place: Place, name: str, timeout_s: float) -> Any:
    failure: BaseException = OSError("the host name has no address")
    try:
        async with asyncio.timeout(timeout_s):
            known = await addresses(place)
    except TimeoutError as exc:
        known, failure = [], exc
    for address in known:
        try:
            async with asyncio.timeout(timeout_s):
                return await _dialled(target, place, address, name, timeout_s)
        except asyncpg.PostgresError as exc:
            if address is known[-1] or not (exc.sqlstate or "").startswith(_NEXT_SERVER):
                raise _refused(exc, target) from exc
            failure = exc
        except asyncpg.TargetServerAttributeNotMatched as exc:
            if address is known[-1]:
                raise ConnectionLost(f"{target}: is a standby or read-only, and ingestd writes") from exc
            failure = exc
        except ssl.SSLError as exc:  # a refused certificate is a ValueError too
            failure = exc
        except (asyncpg.ClientConfigurationError, ValueError, TypeError) as exc:
            what = f"cannot be used ({type(exc).__name__})"
            raise ConfigError([Problem("database.dsn", what, target.redacted, EXAMPLE)]) from exc
        except NO_ANSWER as exc:
            failure = exc
    if isinstance(failure, TimeoutError):
        what = f"{target} did not answer within {timeout_s:g} s"
        raise ConnectionLost(f"{what}: is the address right, and does a firewall let it through?") from failure
    raise ConnectionLost(target.unreachable(failure)) from failure


async def _dialled(target: Target, place: Place, address: str, name: str, timeout_s: float) -> Any:
    """Connect to one address. Whatever asyncpg would read from a DSN or the environment is given as an argument."""
    attempts = target.tls_attempts(place)
    for context in attempts:
        try:
            return await asyncpg.connect(
                host=address,
                port=place.port,
                user=target.user,
                password=place.password,
                database=target.database,
                ssl=context or False,
                direct_tls=target.tls.direct and context is not None,
                target_session_attrs=target.session,
                gsslib="gssapi",
                timeout=timeout_s,
                statement_cache_size=0,
                server_settings={"application_name": name},
            )
        except asyncpg.InvalidPasswordError:
            raise
        except (asyncpg.InvalidAuthorizationSpecificationError, ssl.SSLError, ConnectionError) as exc:
            # With sslmode allow or prefer, the server or its pg_hba.conf may want the other attempt.
            if context is attempts[-1] or isinstance(exc, ConnectionRefusedError):
                raise
    raise AssertionError("there is at least one attempt")


def _refused(exc: asyncpg.PostgresError, target: Target) -> IngestdError:
    sqlstate = exc.sqlstate or "XX000"
    if sqlstate.startswith("08"):
        sqlstate = refusals.of_pooler(first_line(exc)) or sqlstate
    if sqlstate.startswith("08"):
        return ConnectionLost(target.unreachable(exc))
    message = first_line(exc)
    advice = refusals.advice(sqlstate, message, "", target.user, target.database)
    if sqlstate == "28P01" and target.password_from:
        advice = f"check the password ({target.password_from}) and the user"
    elif sqlstate == "28P01":
        advice = "no password was given: name its file in database.password_file"
    told = "" if advice is None else f"; {advice}"
    return DatabaseError(f"{target} refused the connection: {message}{told}", sqlstate=sqlstate)


def first_line(exc: asyncpg.PostgresError) -> str:
    """The server's message, without what a driver adds below it."""
    return str(getattr(exc, "message", None) or exc).partition("\n")[0]
