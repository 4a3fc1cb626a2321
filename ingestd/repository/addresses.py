"""Where the repository's database is: the given connection string, or the variable DATABASE_URL."""

from __future__ import annotations

from ingestd.config import dsn as config_dsn
from ingestd.errors import ConfigError, Problem

APPLICATION_NAME = "ingestd repository"
"""How connections name themselves to the server, by which `ingestd migrate --rename-symbols` finds them."""


def dsn_of(dsn: str | None) -> str:
    """The connection string as PostgreSQL's own programs take it. Raises ConfigError if there is none."""
    found = config_dsn.of_environment() if dsn is None else config_dsn.without_driver(dsn)
    if found is None:
        hint = "pass dsn, or set DATABASE_URL"
        raise ConfigError([Problem("dsn", "is missing", hint=f"{hint}; {config_dsn.EXAMPLE}")])
    return found
