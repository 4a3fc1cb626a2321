"""Settings that every transaction sets for itself, so that those of role, database and server do not matter.

They are sent in one message with BEGIN: PgBouncer refuses startup parameters, and strangers share its sessions.

Not set here, so that an administrator's choice holds: memory, planner, tablespaces, logging and row security, which
change neither rows nor texts nor time limits; and `default_transaction_read_only`, which clouds set when a disk is
nearly full. The driver sets `client_encoding`. `idle_session_timeout` may end a connection between two transactions;
a new one is opened when it is needed.
"""

from __future__ import annotations

SCHEMA = "public"
"""The schema of our tables, except those of `audit`."""

_FIXED = {
    # These decide what a backslash in a migration means, how a time is read, and how an interval is written.
    "standard_conforming_strings": "on",
    "DateStyle": "'ISO, MDY'",
    "IntervalStyle": "postgres",
    "TimeZone": "'UTC'",  # in other zones a day of an interval may not have 24 hours
    "jit": "off",  # with a low jit_above_cost it takes seconds for statements of milliseconds
    # No transaction of ours is idle for so long, unless the daemon froze: then its locks are released.
    "idle_in_transaction_session_timeout": "'10min'",
}
_TRANSACTION_TIMEOUT_SINCE = 17
_DECOMPRESSED = "timescaledb.max_tuples_decompressed_per_dml_transaction"

# Set only if needed: setting the first takes a superuser, and several values of the second keep commits. With `replica`
# no trigger fires, so no candle would be marked; with `off` the server may forget commits.
_CONDITIONAL = (
    "SELECT CASE current_setting('session_replication_role') WHEN 'replica'"
    " THEN set_config('session_replication_role', 'origin', true) END,"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END,"
    # A restore sets this on the database. Rows that TimescaleDB takes meanwhile get into no chunk, and no query finds
    # them again. Ending it takes a superuser too.
    " CASE current_setting('timescaledb.restoring', true) WHEN 'on'"
    " THEN set_config('timescaledb.restoring', 'off', true) END,"
    # Without decompression no late trade enters a columnar chunk; with a limit on it, not all that come at once do.
    " CASE current_setting('timescaledb.enable_dml_decompression', true) WHEN 'off'"
    " THEN set_config('timescaledb.enable_dml_decompression', 'on', true) END,"
    f" CASE WHEN current_setting('{_DECOMPRESSED}', true) <> '0' THEN set_config('{_DECOMPRESSED}', '0', true) END"
)


def begin(server_version: int, extension_schema: str, lock_timeout_s: float | None) -> str:
    """The statements that begin a transaction."""
    settings = _settings(server_version, extension_schema, lock_timeout_s)
    local = [f"SET LOCAL {name} = {value}" for name, value in settings.items()]
    return "; ".join(["BEGIN ISOLATION LEVEL READ COMMITTED", *local, _CONDITIONAL])


def for_session(server_version: int, extension_schema: str) -> str:
    """The statements that set the same for a session without a pooler, for statements outside of transactions."""
    settings = _settings(server_version, extension_schema, None)
    settings["default_transaction_isolation"] = "'read committed'"
    return "; ".join(f"SET {name} = {value}" for name, value in settings.items())


def _settings(server_version: int, extension_schema: str, lock_timeout_s: float | None) -> dict[str, str]:
    also = "" if extension_schema == SCHEMA else f"{quoted(extension_schema)}, "
    settings = {
        # First, since the server's own limit holds for every statement before it.
        "statement_timeout": "0",
        "lock_timeout": str(round((lock_timeout_s or 0) * 1000)),
        # pg_catalog is searched before them; pg_temp comes last, since others may have left tables there.
        "search_path": f"{SCHEMA}, {also}pg_temp",
        **_FIXED,
    }
    if server_version >= _TRANSACTION_TIMEOUT_SINCE:
        settings["transaction_timeout"] = "0"
    return settings


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str) -> str:
    """One of our relations with its schema, as an SQL identifier; a name with a dot has its schema already."""
    return name if "." in name else f"{SCHEMA}.{name if name == name.lower() else quoted(name)}"
