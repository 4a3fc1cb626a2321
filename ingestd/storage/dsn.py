"""The servers, user, database and TLS that a DSN names, and the message when none of the servers answers."""

from __future__ import annotations

import asyncio
import getpass
import os
import random
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ingestd.config import dsn as config_dsn
from ingestd.config.dsn import masked_if_doubtful
from ingestd.config.secrets import hide
from ingestd.config.values import read_text
from ingestd.errors import ConfigError, Problem
from ingestd.storage.tls import TlsMode, contexts, in_home, require_usable

_DEFAULT_PORT: Final = "5432"
_SOCKET_FOLDERS: Final = ("/run/postgresql", "/var/run/postgresql", "/tmp")
# The variables that give what the DSN leaves out, as in libpq. Not among them: PGAPPNAME and PGCONNECT_TIMEOUT, for
# which the configuration has options, and PGOPTIONS and PGCLIENTENCODING, which are meant for psql.
_ENVIRONMENT = {
    "PGHOST": "host", "PGHOSTADDR": "hostaddr", "PGPORT": "port", "PGDATABASE": "dbname", "PGUSER": "user",
    "PGPASSWORD": "password", "PGPASSFILE": "passfile", "PGSSLMODE": "sslmode", "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLCERT": "sslcert", "PGSSLKEY": "sslkey", "PGSSLROOTCERT": "sslrootcert", "PGSSLCRL": "sslcrl",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version", "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGTARGETSESSIONATTRS": "target_session_attrs", "PGLOADBALANCEHOSTS": "load_balance_hosts",
    "PGCHANNELBINDING": "channel_binding", "PGREQUIREAUTH": "require_auth", "PGGSSENCMODE": "gssencmode",
}  # fmt: skip
# A line host:port:database:user:password. A backslash precedes each colon and backslash inside a field.
_PASSWORD_LINE = re.compile(r"((?:[^\\:]|\\.)*):" * 4 + r"(.*)")


@dataclass(frozen=True, slots=True)
class Place:
    """One server. `host` is a name or a socket's folder; `hostaddr`, if not empty, is used instead of looking it up."""

    host: str
    port: int
    hostaddr: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        return self.host if self.is_socket else f"{self.host or self.hostaddr}:{self.port}"

    @property
    def is_socket(self) -> bool:
        return self.host.startswith("/") and not self.hostaddr


@dataclass(frozen=True, slots=True)
class Target:
    """A DSN, completed; prints as `PostgreSQL at db1:5432, database 'market', user 'ingestd'`."""

    places: tuple[Place, ...]
    database: str
    user: str
    session: str  # `any`, `read-write` or `primary`
    tls: TlsMode
    timeout_s: float | None  # of the DSN, for each address; None: it names none
    application_name: str | None
    at_random: bool
    redacted: str
    password_from: str  # where the password was read; empty: there is none

    def __str__(self) -> str:
        where = ",".join(map(str, self.places))
        database, user = masked_if_doubtful(self.database), masked_if_doubtful(self.user)
        return f"PostgreSQL at {where}, database {database!r}, user {user!r}"

    def at(self, place: Place) -> Target:
        """The same target with this server only."""
        return replace(self, places=(place,))

    def in_order(self) -> list[Place]:
        """The servers as they are to be tried."""
        return random.sample(self.places, len(self.places)) if self.at_random else list(self.places)

    def tls_attempts(self, place: Place) -> list[ssl.SSLContext | None]:
        """How to speak to this server, the first choice first; None: without TLS."""
        return [None] if place.is_socket else contexts(self.tls, place.host or place.hostaddr)

    def unreachable(self, exc: BaseException) -> str:
        """Why there was no connection, and what to look at."""
        return f"{self}: {_why_unreachable(exc)}"


def _why_unreachable(exc: BaseException) -> str:
    if isinstance(exc, socket.gaierror):
        return "the host name is not known; correct database.dsn or the resolver"
    if isinstance(exc, ConnectionRefusedError):
        return "nothing listens there; is the server running, and on this port?"
    if isinstance(exc, FileNotFoundError):
        return "there is no such socket; is the server running?"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({exc.verify_message}); check sslrootcert and the host's name"
    if isinstance(exc, ssl.SSLError):
        return f"no TLS connection ({exc.reason or 'the handshake failed'}); check sslmode and the certificates"
    return f"no connection ({str(exc) or type(exc).__name__})"


async def addresses(place: Place) -> list[str]:
    """Up to eight addresses of this server; its name if that cannot be resolved."""
    if place.is_socket or place.hostaddr:
        return [place.host if place.is_socket else place.hostaddr]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError:
        return [place.host]
    return list(dict.fromkeys(str(address[0]) for *_, address in found))[:8]


def describe_target(dsn: str, dsn_from: str = "database.dsn") -> Target:
    """Read a DSN, and what it leaves out from the service, the environment and the password file, as libpq does.

    `dsn_from`: the option that its password came from, for messages.
    Opens no connection. Raises ConfigError with every mistake; no message shows a value of the DSN.
    """
    given = config_dsn.read(dsn)
    service = _service(given)
    defaults = {name: os.environ[variable] for variable, name in _ENVIRONMENT.items() if os.environ.get(variable)}
    parameters = defaults | service | given
    problems = list(config_dsn.mistakes(parameters))
    if problems:
        raise ConfigError([Problem(config_dsn.PATH, f"with PG… variables and service, {text}") for text in problems])
    user = parameters.get("user") or _account()
    database = parameters.get("dbname") or user
    several = parameters.get("host", "").count(",") + parameters.get("hostaddr", "").count(",")
    timeout_s = int(parameters.get("connect_timeout") or 0)
    tls = TlsMode.of(parameters)
    require_usable(tls)
    places = tuple(_places(parameters, user, database))
    named = (dsn_from, given), ("its service", service), ("the variable PGPASSWORD", defaults)
    password_from = next((source for source, of in named if of.get("password")), str(_password_file(parameters)))
    return Target(
        places=places,
        database=database,
        user=user,
        # libpq would take the first that answers; we need one that accepts writes.
        session=parameters.get("target_session_attrs") or ("read-write" if several else "any"),
        tls=tls,
        timeout_s=timeout_s if timeout_s > 0 else None,
        application_name=parameters.get("application_name") or parameters.get("fallback_application_name"),
        at_random=parameters.get("load_balance_hosts") == "random",
        redacted=config_dsn.shown(dsn),
        password_from=password_from if any(place.password for place in places) else "",
    )


def _places(parameters: Mapping[str, str], user: str, database: str) -> list[Place]:
    def each(name: str) -> list[str]:
        """This parameter's value for each server; a single value counts for all."""
        values = parameters.get(name, "").split(",")
        return values * count if len(values) == 1 else values

    count = 1 + max(parameters.get(name, "").count(",") for name in ("host", "hostaddr"))
    places = []
    for host, hostaddr, number in zip(each("host"), each("hostaddr"), each("port"), strict=True):
        port = number.strip() or _DEFAULT_PORT
        name = host if host or hostaddr else _local(port)
        password = parameters.get("password") or _from_password_file(parameters, name or hostaddr, port, database, user)
        hide(password)
        places.append(Place(name, int(port), hostaddr, password))
    return places


def _local(port: str) -> str:
    """The folder of a server's socket on this machine; `localhost` if there is none."""
    return next((folder for folder in _SOCKET_FOLDERS if Path(folder, f".s.PGSQL.{port}").exists()), "localhost")


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        raise ConfigError([Problem(config_dsn.PATH, "names no user", hint=config_dsn.EXAMPLE)]) from None


def _service(given: Mapping[str, str]) -> dict[str, str]:
    """The parameters of the named service (https://www.postgresql.org/docs/18/libpq-pgservice.html)."""
    service = given.get("service") or os.environ.get("PGSERVICE")
    if not service:
        return {}
    named = given.get("servicefile") or os.environ.get("PGSERVICEFILE")
    files = [Path(named) if named else in_home(".pg_service.conf")]
    files.append(Path(os.environ.get("PGSYSCONFDIR", "/etc/postgresql-common")) / "pg_service.conf")
    for file in files:
        try:
            lines = read_text(file).splitlines() if file.exists() else []
        except (OSError, ValueError):
            raise ConfigError([Problem("service", "its file cannot be read", str(file))]) from None
        sections = [match[1] if (match := re.fullmatch(r"\[(.*)\]", line.strip())) else None for line in lines]
        if service in sections:
            at = sections.index(service) + 1
            end = next((index for index in range(at, len(sections)) if sections[index] is not None), len(sections))
            return _service_parameters(lines[at:end], file)
    raise ConfigError([Problem(config_dsn.PATH, "names a service that no service file has", str(files[0]))])


def _service_parameters(lines: list[str], file: Path) -> dict[str, str]:
    pairs = [line.strip().partition("=") for line in lines if line.strip() and not line.strip().startswith("#")]
    if not all(equals and name not in ("service", "servicefile") for name, equals, _ in pairs):
        raise ConfigError([Problem(config_dsn.PATH, "names a service whose lines are not key=value", str(file))])
    return config_dsn.of_pairs((name, value) for name, _, value in pairs)


def _password_file(parameters: Mapping[str, str]) -> Path:
    return Path(parameters.get("passfile") or in_home(".pgpass"))


def _from_password_file(parameters: Mapping[str, str], host: str, port: str, database: str, user: str) -> str:
    """The password of the first line that fits; "" where there is none (libpq-pgpass.html)."""
    file = _password_file(parameters)
    host = "localhost" if host in _SOCKET_FOLDERS else host
    try:
        if not file.is_file() or file.stat().st_mode & 0o077:  # libpq takes no file that others may read
            return ""
        lines = read_text(file).splitlines()
    except (OSError, ValueError):
        return ""
    wanted = (host, port, database, user)
    for line in lines:
        match = _PASSWORD_LINE.fullmatch(line)
        if match is None or line.startswith("#"):
            continue
        *fields, password = (re.sub(r"\\(.)", r"\1", text) for text in match.groups())
        if all(field in ("*", value) for field, value in zip(fields, wanted, strict=True)):
            return password
    return ""
