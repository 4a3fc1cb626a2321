"""Advice for errors of the server: the SQL statement or the command that fixes each."""

from __future__ import annotations

import re

from ingestd.storage.session_settings import SCHEMA, qualified, quoted

_ROLES = "docs/operations.md, Roles of the database"
_OF_OBJECT = re.compile(
    r"permission denied for (?P<kind>\w+(?: \w+)?) (?P<name>\S+)$|"
    r'permission denied to create temporary tables in database "(?P<temporary>.+)"|'
    r"must be owner of (?P<owned>\w+(?: \w+)*?) (?P<relation>\S+)$|"
    r'permission denied to set parameter "(?P<parameter>.+)"|'
    r'permission denied to create (?P<extension>extension) "'
)
_AUDIT = ("trade_logs", "system_events")
_VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")

_MIGRATE = "the schema is not the one that this version needs: run `ingestd migrate -c FILE`"
_ADVICE = {
    "28000": "check the user name and the server's pg_hba.conf",
    "3D000": "create it with CREATE DATABASE, or correct database.dsn",
    "53300": "raise the server's max_connections; a daemon needs four",
    "57P03": "the server is starting or stopping; it is tried again",
    "25006": "a standby, or default_transaction_read_only is on: let database.dsn name the primary, or set that off",
    "42P01": _MIGRATE,
    "42703": _MIGRATE,
    "42883": _MIGRATE,
    "53100": "make room on the server's disk",
}
OTHER_TIMESCALEDB = (
    "the server no longer has the version of TimescaleDB that this database was made with: install it beside the new "
    "one, or run ALTER EXTENSION timescaledb UPDATE as the first command of a session (psql -X)"
)


def advice(sqlstate: str, message: str, statement: str, role: str, database: str) -> str | None:
    """What to do about an error; None: there is no advice. `statement` is empty while connecting."""
    if "row-level security" in message:
        return f"ALTER ROLE {quoted(role)} BYPASSRLS: the daemon writes every row, and by COPY"
    if sqlstate == "42501":
        return _missing_right(message, statement, role, database)
    if sqlstate == "3F000":  # no schema of the search_path may be used
        return f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {quoted(role)}"
    if sqlstate == "58P01" and "timescaledb" in message:
        return OTHER_TIMESCALEDB
    return _ADVICE.get(sqlstate)


def _missing_right(message: str, statement: str, role: str, database: str) -> str:
    """The GRANT for the missing right, if the server's message names it."""
    found = _OF_OBJECT.search(message)
    to = f"TO {quoted(role)}"
    if found is None:
        return f"give the role {role} the right ({_ROLES})"
    if found["temporary"]:
        return f"GRANT TEMPORARY ON DATABASE {quoted(found['temporary'])} {to}"
    if found["extension"]:
        return f"GRANT CREATE ON DATABASE {quoted(database)} {to}"
    if found["parameter"] == "timescaledb.restoring":
        return "a restore has not been ended: SELECT timescaledb_post_restore(), as a superuser"
    if found["parameter"]:
        return f"ALTER ROLE {quoted(role)} RESET {found['parameter']}, and of the database: ALTER DATABASE … RESET"
    if found["relation"]:
        return (
            f"only the owner of {found['relation']} may do that: connect as it, or let the SQL that `ingestd migrate "
            "roles` prints give everything to ingestd_migrator, and connect as that"
        )
    return f"GRANT {', '.join(_privileges(found['kind'], statement))} ON {_object(found['kind'], found['name'])} {to}"


def _privileges(kind: str, statement: str) -> list[str]:
    """The privileges that the statement needs on the object; an empty statement stands for the connection."""
    words = re.findall(r"[A-Z]+", statement.upper())
    if kind == "database":
        return ["CREATE" if words else "CONNECT"]
    if kind == "schema":
        return ["USAGE", "CREATE"] if {"CREATE", "ALTER"} & set(words) else ["USAGE"]
    if kind in ("function", "procedure"):
        return ["EXECUTE"]
    if words[:1] == ["COPY"] and "STDIN" in words:
        return ["INSERT"]
    return [verb for verb in _VERBS if verb in words] or ["SELECT"]


def _object(kind: str, name: str) -> str:
    if kind in ("schema", "database"):
        return f"{kind.upper()} {quoted(name.strip(chr(34)))}"
    if kind in ("function", "procedure"):
        return f"{kind.upper()} {SCHEMA}.{name}"
    return f"audit.{name}" if name in _AUDIT else qualified(name)


_POOLER_REFUSALS = (
    ("authentication failed", "28P01"),
    ("no such user", "28P01"),
    ("no such database", "3D000"),
    ("does not exist", "3D000"),
    ("no more connections allowed", "53300"),
)


def of_pooler(message: str) -> str | None:
    """The SQLSTATE that PostgreSQL would send where PgBouncer sends only a protocol error; None: not known."""
    return next((sqlstate for words, sqlstate in _POOLER_REFUSALS if words in message), None)
