"""What a DSN points at, said without its password, and what to do when nothing answers there."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from ingestd.errors import ConfigError, Problem

_EXAMPLE = "write postgresql://user@host:5432/database"
_ADVICE = {
    "28P01": "check the password (database.password_file)",
    "28000": "check the user name and the server's pg_hba.conf",
    "3D000": "create it with CREATE DATABASE, or correct database.dsn",
    "53300": "raise the server's max_connections; a daemon needs four",
    "57P03": "the server is starting or stopping; it is tried again",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Host, port, database and user of a DSN; prints as `postgresql at db1:5432/market as ingestd`."""

    host: str
    port: int
    database: str
    user: str
    redacted: str
    example: str = _EXAMPLE

    def __str__(self) -> str:
        where = self.host if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"PostgreSQL at {where}, database {self.database!r}, user {self.user!r}"

    def unreachable(self, exc: BaseException) -> str:
        """Why there was no connection, and what to look at."""
        if isinstance(exc, socket.gaierror):
            return f"{self}: the host name is not known; correct database.dsn or the resolver"
        if isinstance(exc, ConnectionRefusedError):
            return f"{self}: nothing listens there; is the server running, and on this port?"
        if isinstance(exc, FileNotFoundError):
            return f"{self}: there is no such socket; is the server running?"
        return f"{self}: no connection ({_plain(exc)})"

    def advice(self, sqlstate: str) -> str:
        """What to do about a refusal, to be appended to the server's own words."""
        advice = _ADVICE.get(sqlstate)
        return f"; {advice}" if advice else ""


def describe_target(dsn: str) -> Target:
    """Read a DSN for its messages. Raises ConfigError when it is no PostgreSQL URL.

    What the URL leaves out comes from PGHOST, PGPORT, PGDATABASE and PGUSER, as in the driver.
    """
    try:
        parts = urlsplit(dsn)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        first_host, port = _first_host(parts.netloc.rpartition("@")[2])
    except ValueError as exc:
        raise ConfigError([Problem("database.dsn", f"is not a URL: {exc}", redact(dsn), _EXAMPLE)]) from exc
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigError([Problem("database.dsn", "is not a PostgreSQL URL", redact(dsn), _EXAMPLE)])
    environ = os.environ
    user = unquote(parts.username or "") or query.get("user") or environ.get("PGUSER") or environ.get("USER", "")
    return Target(
        host=first_host or query.get("host") or environ.get("PGHOST") or "localhost",
        port=port or int(query.get("port") or environ.get("PGPORT") or 5432),
        database=unquote(parts.path.lstrip("/")) or query.get("database") or environ.get("PGDATABASE") or user,
        user=user,
        redacted=redact(dsn),
    )


def redact(dsn: str) -> str:
    """The DSN without its password, whatever its form."""
    text = re.sub(r"(//[^/@:]*:).*(@)", r"\1***\2", dsn)
    return re.sub(r"(password=)[^&\s]+", r"\1***", text)


def _first_host(hosts: str) -> tuple[str, int]:
    first = hosts.partition(",")[0]
    if first.startswith("["):
        host, _, rest = first[1:].partition("]")
        return host, int(rest.lstrip(":") or 0)
    host, _, port = first.partition(":")
    return unquote(host), int(port or 0)


def _plain(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
