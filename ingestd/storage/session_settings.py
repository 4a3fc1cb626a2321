"""What every transaction of ours sets for itself, so that nothing set on the role, the database or the server matters.

Sent with the BEGIN, in one message. Never as parameters of the connection's start, which PgBouncer refuses, and never
for a session, which strangers share behind it.

Left as an administrator has set it: what changes neither rows nor words nor what may take how long (memory, planner,
tablespaces, logging, row security). `client_encoding` the driver sets. `idle_session_timeout` ends a connection
between transactions, and the next one is made when it is needed.
"""

from __future__ import annotations

SCHEMA = "public"
"""Where our tables are, and nowhere else; those of the audit are in `audit`."""

_FIXED = {
    # A backslash in a text of a migration, how a text is read as a time, how an interval is written.
    "standard_conforming_strings": "on",
    "DateStyle": "'ISO, MDY'",
    "IntervalStyle": "postgres",
    "TimeZone": "'UTC'",  # a day of an interval is not 24 hours in every zone
    "jit": "off",  # with a low cost set for it, it takes seconds over statements of milliseconds
    # We are never idle for so long in the middle of a transaction: a client that froze gives its locks back.
    "idle_in_transaction_session_timeout": "'10min'",
}
_TRANSACTION_TIMEOUT_SINCE = 17

# Only where they are not as we need them: to set the first takes a superuser, and of the second there are more values
# than these that keep a commit. `replica` fires no trigger: no candle would be marked; `off` forgets commits.
_CONDITIONAL = (
    "SELECT CASE current_setting('session_replication_role') WHEN 'replica'"
    " THEN set_config('session_replication_role', 'origin', true) END,"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END"
)


def begin(
    *,
    server_version: int,
    read_only: bool,
    extension_schema: str,
    lock_timeout_s: float | None,
    statement_timeout_s: float | None,
) -> str:
    """The statements that begin a transaction. `read_only`: the server is a standby, which can begin no other."""
    access = "READ ONLY" if read_only else "READ WRITE"
    settings = _settings(server_version, extension_schema, lock_timeout_s, statement_timeout_s)
    local = [f"SET LOCAL {name} = {value}" for name, value in settings.items()]
    return "; ".join([f"BEGIN ISOLATION LEVEL READ COMMITTED, {access}", *local, _CONDITIONAL])


def for_session(server_version: int, extension_schema: str) -> str:
    """The same for a statement that runs outside of transactions, on a connection of which no stranger has a part."""
    settings = {
        **_settings(server_version, extension_schema, None, None),
        "default_transaction_isolation": "'read committed'",
        "default_transaction_read_only": "off",
    }
    return "; ".join(f"SET {name} = {value}" for name, value in settings.items())


def _settings(
    server_version: int, extension_schema: str, lock_timeout_s: float | None, statement_timeout_s: float | None
) -> dict[str, str]:
    also = "" if extension_schema == SCHEMA else f"{quoted(extension_schema)}, "
    settings = {
        # First: the server's limit of before holds for each of the statements up to this one.
        "statement_timeout": str(round((statement_timeout_s or 0) * 1000)),
        "lock_timeout": str(round((lock_timeout_s or 0) * 1000)),
        # pg_catalog is searched before all of them; what others left in pg_temp, after.
        "search_path": f"{SCHEMA}, {also}pg_temp",
        **_FIXED,
    }
    if server_version >= _TRANSACTION_TIMEOUT_SINCE:
        settings["transaction_timeout"] = "0"
    return settings


def quoted(name: str) -> str:
    """A name as SQL wants it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str) -> str:
    """A relation of ours as SQL wants it from anywhere; one with a dot says its schema itself."""
    return name if "." in name else f"{SCHEMA}.{name if name == name.lower() else quoted(name)}"
