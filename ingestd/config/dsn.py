"""Parses a PostgreSQL connection string as libpq does: a URL, or `key=value` words.

Each parameter of libpq 18 keeps its meaning or is refused by name
(https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS). A string that cannot be parsed is never
shown, not even in part, since the password may be anywhere in it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, unquote

from ingestd.config.secrets import MASK, hide, why_doubtful
from ingestd.config.values import is_address
from ingestd.errors import ConfigError, Problem

PATH: Final = "database.dsn"
EXAMPLE: Final = "write postgresql://user@host:5432/database"
VARIABLE: Final = "DATABASE_URL"
"""The variable whose connection string is used where none is given."""

# Parameters that may have any value.
_ANY_VALUE: Final = (
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service", "servicefile", "connect_timeout",
    "application_name", "fallback_application_name", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl",
)  # fmt: skip
_TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_LEAVE_OUT = "is not supported; leave it out"
_UNSUPPORTED: Final = (
    ("is for Kerberos, which is not supported; leave it out", ("gsslib", "krbsrvname")),
    (
        f"{_LEAVE_OUT}: every call has its own time limit (database.flush_timeout_s)",
        ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    ),
    (
        "is not supported, since PgBouncer refuses it; set it on the server: ALTER ROLE … IN DATABASE … SET …",
        ("options",),
    ),
    ("is not supported: this client takes the method that the server asks for; leave it out", ("require_auth",)),
    ("is not supported: name one file with sslcrl", ("sslcrldir",)),
    ("is obsolete: write sslmode=require", ("requiressl",)),
    ("is obsolete; leave it out", ("authtype", "tty")),
    (_LEAVE_OUT, ("requirepeer", "sslkeylogfile", "scram_client_key", "scram_server_key")),
    (_LEAVE_OUT, ("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope")),
)


def _one_of(*values: str, because: str = "") -> tuple[tuple[str, ...], str]:
    names = " or ".join(filter(None, (", ".join(values[:-1]), values[-1])))
    return values, f"must be {names}{because and f': {because}'}"


# For each other parameter, the accepted values (possibly none) and what is said of any other value.
_CHOICES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": _one_of("postgres", "direct"),
    "sslcertmode": _one_of("allow"),
    "sslcompression": _one_of("0", because="TLS is not compressed"),
    "sslsni": _one_of("1", because="the server's name is always sent"),
    "ssl_min_protocol_version": _one_of(*_TLS_VERSIONS),
    "ssl_max_protocol_version": _one_of(*_TLS_VERSIONS),
    "target_session_attrs": _one_of("any", "read-write", "primary", because="ingestd writes, which a standby refuses"),
    "load_balance_hosts": _one_of("disable", "random"),
    "channel_binding": _one_of(
        "disable",
        "prefer",
        because="this client cannot bind a login to its TLS channel; sslmode=verify-full proves the server too",
    ),
    "client_encoding": (("utf8", "utf-8", "UTF8", "UTF-8"), "must be utf8: all text is sent in it"),
    "gssencmode": _one_of("disable", "prefer", because="Kerberos is not supported"),
    "gssdelegation": (("0",), "is for Kerberos, which is not supported; leave it out"),
    "max_protocol_version": _one_of("3.0", "3.2", "latest"),
    "min_protocol_version": _one_of("3.0", because="this client speaks no newer protocol"),
    "replication": (("false", "off", "no", "0"), "must be off: ingestd stores rows and replicates none"),
    **{name: ((), reason) for reason, names in _UNSUPPORTED for name in names},
}
_SECRET: Final = ("password", "sslpassword")
_KNOWN: Final = (*_ANY_VALUE, *_CHOICES)
_ALIASES: Final = {"database": "dbname"}
_PRINTABLE_NAME = re.compile(r"[a-z][a-z_]{1,40}")
_WITH_DRIVER = re.compile(r"^(\s*postgres(?:ql)?)\+\w+(?=://)", re.IGNORECASE)
_BLANKS = " \t\n\r\f\v"  # the C library's whitespace, as everywhere in libpq
_WORD = re.compile(
    r"\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)(?=\s|\Z)", re.DOTALL | re.ASCII
)
_NUMBER = re.compile(r"[ \t\n\r\f\v]*-?[0-9]{1,5}[ \t\n\r\f\v]*")  # with the whitespace of C, which int() accepts too
_LONGEST_SOCKET_BYTES = 107  # maximum length of a UNIX socket's path on Linux
_HIGHEST_PORT = 65_535


class _Refused(Exception):
    """The string cannot be parsed. The message quotes nothing from it."""


def read(text: str) -> dict[str, str]:
    """Parse the string into parameters by libpq's names; from then on its passwords are masked in all messages.

    Raises ConfigError with every mistake; no message contains a value of the string.
    """
    try:
        parameters = _parsed(text)
    except _Refused as error:
        raise ConfigError([Problem(PATH, str(error), hint=EXAMPLE)]) from None
    return _require_sound(parameters)


def without_driver(text: str) -> str:
    """The URL as PostgreSQL's own programs take it: SQLAlchemy's form (postgresql+psycopg://…) also names a driver."""
    return _WITH_DRIVER.sub(r"\1", text, count=1)


def of_environment() -> str | None:
    """The connection string of the variable DATABASE_URL, without a driver's name; None if it is empty or not set.

    Raises ConfigError as `read` does, with the variable's name.
    """
    text = without_driver(os.environ.get(VARIABLE, ""))
    if not text:
        return None
    try:
        read(text)
    except ConfigError as error:
        raise ConfigError([replace(problem, path=VARIABLE) for problem in error.problems]) from None
    return text


def of_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Check the parameters from a service file. Raises ConfigError as `read` does."""
    try:
        parameters = _collected(pairs)
    except _Refused as error:
        raise ConfigError([Problem(PATH, f"names a service that {error}")]) from None
    return _require_sound(parameters)


def shown(text: str) -> str:
    """The string as a URL with its passwords masked; wholly masked if it cannot be parsed."""
    try:
        parameters = read(text)
    except ConfigError:
        return MASK
    return render({name: MASK if name in _SECRET else masked_if_doubtful(value) for name, value in parameters.items()})


def masked_if_doubtful(value: str) -> str:
    """A user's name or another value, masked if it may contain a password (`user:password`, `user password=…`).

    An IPv6 address is shown.
    """
    if why_doubtful(value) is not None:
        return MASK
    return MASK if ":" in value and not is_address(value.split(",")[0]) else value


def changed(text: str, **values: str) -> str:
    """Replace some parameters of the string. Raises ConfigError if it cannot be parsed."""
    return render({**read(text), **values})


def render(parameters: Mapping[str, str]) -> str:
    """Format these parameters as a URL."""
    rest = {name: value for name, value in parameters.items() if name not in ("user", "password", "dbname")}
    hosts, ports = rest.get("host", "").split(","), rest.get("port", "").split(",")
    place = ""
    if "port" not in rest or len(ports) == len(hosts):
        each_port = ports if "port" in rest else [""] * len(hosts)
        place = ",".join(
            _host_in_url(host) + (f":{port}" if port else "") for host, port in zip(hosts, each_port, strict=True)
        )
        rest = {name: value for name, value in rest.items() if name not in ("host", "port")}
    user = quote(parameters.get("user", ""), safe="")
    if "password" in parameters:
        user += f":{quote(parameters['password'], safe='*')}"
    query = "&".join(f"{name}={quote(value, safe='/,*')}" for name, value in rest.items())
    url = f"postgresql://{user}@{place}" if user else f"postgresql://{place}"
    return f"{url}/{quote(parameters.get('dbname', ''), safe='')}{query and f'?{query}'}"


def _require_sound(parameters: dict[str, str]) -> dict[str, str]:
    problems = list(mistakes(parameters))
    if problems:
        raise ConfigError([Problem(PATH, problem) for problem in problems])
    return parameters


def mistakes(parameters: Mapping[str, str]) -> Iterator[str]:
    """List the mistakes in these parameters, without showing a value."""
    for name, value in parameters.items():
        if not _is_text(value):
            yield f"{name} has a NUL or half a surrogate pair in it: no value can have that"
        elif name in _CHOICES and value not in _CHOICES[name][0]:
            yield f"{name} {_CHOICES[name][1]}"
        elif name not in _SECRET and (doubt := why_doubtful(value)) is not None:
            yield f"{name} {doubt}"
    if "connect_timeout" in parameters and _NUMBER.fullmatch(parameters["connect_timeout"]) is None:
        yield "connect_timeout must be a whole number of seconds"
    yield from _mistakes_of_hosts(parameters)
    yield from _mistakes_of_tls(parameters)


def _mistakes_of_hosts(parameters: Mapping[str, str]) -> Iterator[str]:
    hosts, addresses = parameters.get("host", "").split(","), parameters.get("hostaddr", "").split(",")
    ports = parameters.get("port", "").split(",")
    if not all(_is_host(host) for host in hosts):
        yield "host must be a name, an address, or the folder of a socket"
    if not all(not address or is_address(address) for address in addresses):
        yield "hostaddr must be an IP address"
    if not all(not port.strip() or (_NUMBER.fullmatch(port) and 0 < int(port) <= _HIGHEST_PORT) for port in ports):
        yield f"port must be a number up to {_HIGHEST_PORT}"
    if "hostaddr" in parameters and "host" in parameters and len(addresses) != len(hosts):
        yield "hostaddr must have one address for each host"
    if len(ports) not in (1, max(len(hosts), len(addresses))):
        yield "port must have one port, or one for each host"


def _mistakes_of_tls(parameters: Mapping[str, str]) -> Iterator[str]:
    mode = parameters.get("sslmode")
    if parameters.get("sslnegotiation") == "direct" and mode not in ("require", "verify-ca", "verify-full"):
        yield "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full"
    if parameters.get("sslrootcert") == "system" and mode not in (None, "verify-full"):
        yield "sslrootcert=system needs sslmode=verify-full"
    lowest, highest = (parameters.get(f"ssl_{end}_protocol_version") for end in ("min", "max"))
    known = lowest in _TLS_VERSIONS and highest in _TLS_VERSIONS
    if known and _TLS_VERSIONS.index(str(lowest)) > _TLS_VERSIONS.index(str(highest)):
        yield "ssl_min_protocol_version is above ssl_max_protocol_version"


def _parsed(text: str) -> dict[str, str]:
    text = text.strip(_BLANKS)
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() in ("postgresql", "postgres"):
        return _collected(_url_pairs(rest))
    if not text:
        raise _Refused("is empty")
    if re.match(r"\w+\s*=", text, re.ASCII) is None:
        raise _Refused("is neither a PostgreSQL URL nor key=value words")
    return _collected(_word_pairs(text))


def _collected(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in pairs:
        known = _ALIASES.get(name, name)
        if known not in _KNOWN:
            raise _Refused(_unknown(name, after_secret=any(secret in parameters for secret in _SECRET)))
        parameters[known] = value
    if "://" in parameters.get("dbname", "") or "://" in parameters.get("host", ""):
        raise _Refused("has a URL within a value")
    for secret in _SECRET:
        hide(parameters.get(secret, ""))
    return parameters


def _unknown(name: str, *, after_secret: bool) -> str:
    """The problem of an unknown parameter. After a password, its name is hidden: it may be part of the password."""
    close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.75)
    if close:
        return f"has a parameter that libpq does not know: did you mean {close[0]}?"
    if after_secret or _PRINTABLE_NAME.fullmatch(name) is None:
        return (
            "has a parameter that libpq does not know; in a URL, write & as %26 and = as %3D; in key=value words, "
            "put a value with blanks into quotes"
        )
    return f"has the parameter {name}, which libpq does not know"


def _url_pairs(rest: str) -> Iterator[tuple[str, str]]:
    """Parse a URL like `conninfo_uri_parse_options` of libpq, but refuse a stray `@` or blank: a quoting mistake."""
    if re.search(r"\s", rest):
        raise _Refused("has a blank in its URL: write it as %20")
    credentials = re.match(r"([^@/:]*)(?::([^@/]*))?@", rest)
    place = rest[credentials.end() :] if credentials else rest
    if "@" in place:
        raise _Refused("has an @ that may be in the password: in user and password write @ as %40 and / as %2F")
    if credentials and credentials[1]:
        yield "user", _decoded(credentials[1])
    if credentials and credentials[2]:
        yield "password", _decoded(credentials[2])
    authority = re.match(r"[^/?]*", place)
    assert authority is not None, "it matches the empty text"
    hosts_and_ports = [_host_and_port(part) for part in authority[0].split(",")]
    if any(host for host, _ in hosts_and_ports):
        yield "host", ",".join(_decoded(host) for host, _ in hosts_and_ports)
    if any(port for _, port in hosts_and_ports):
        yield "port", ",".join(_decoded(port) for _, port in hosts_and_ports)
    path, _, query = place[authority.end() :].partition("?")
    if path[1:]:
        yield "dbname", _decoded(path[1:])
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not equals or "=" in value:
            which = f"the parameter {name}" if name in _KNOWN else "a parameter"
            raise _Refused(f"has {which} that is not name=value: write & as %26 and = as %3D")
        decoded = (_decoded(name), _decoded(value))
        yield ("sslmode", "require") if decoded == ("ssl", "true") else decoded


def _host_and_port(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"\[([^\]]+)\](?::(.*))?", text) if text.startswith("[") else re.match(r"([^:]*):?(.*)", text)
    if match is None:
        raise _Refused("has a host in brackets that is no IPv6 address")
    return match[1], match[2] or ""


def _word_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Parse `key=value` words like libpq's `conninfo_parse`."""
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise _Refused("is not key=value words: quote a value with blanks, 'a value', and write ' as \\'")
        at = match.end()
        value = match[2] or match[3] or ""
        yield match[1], re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise _Refused("has a % that is no %xx escape: write it as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _Refused("has a %xx escape that is not UTF-8") from None


def _host_in_url(host: str) -> str:
    return f"[{host}]" if is_address(host) and ":" in host else quote(host, safe="")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _is_host(host: str) -> bool:
    """Whether the text is a host name, an address, or a folder whose socket path is short enough."""
    if host.startswith("/"):
        return len(f"{host}/.s.PGSQL.{_HIGHEST_PORT}".encode(errors="replace")) <= _LONGEST_SOCKET_BYTES
    if not host or is_address(host):
        return True
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return re.search(r"[\s/:?#@=\\'\"\[\]\x00-\x1f]", host) is None
