"""How the daemon reaches its database, and the look it takes before it starts."""

from __future__ import annotations

from pathlib import Path

import structlog

from ingestd import state_files
from ingestd.config import Config
from ingestd.config_values import redacted_url
from ingestd.errors import ConfigError, ConnectionLost, DatabaseError, Problem
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migrate import check_schema

log = structlog.get_logger()

# Left in the state directory once the database was reached: from then on its absence is an outage, not a mistake.
_SEEN = "database-seen"


class DatabaseAccess:
    """Opens connections by the configuration; a rotated password file is read anew each time."""

    def __init__(self, config: Config) -> None:
        if config.database is None:
            raise ConfigError([Problem("database", "is missing", hint="add [database] with a dsn")])
        self._config = config.database
        self._instance = config.instance.name

    async def connect_bounded(self) -> Database:
        """A connection for rows or upkeep: every call on it ends within `database.flush_timeout_s`."""
        return await self.connect(call_timeout_s=self._config.flush_timeout_s)

    async def connect(self, *, call_timeout_s: float | None) -> Database:
        """A connection; a rotated password is read now."""
        return await Database.connect(
            self._config.resolved_dsn(),
            application_name=f"ingestd {self._instance}",
            connect_timeout_s=self._config.connect_timeout_s,
            lock_timeout_s=self._config.lock_timeout_s,
            call_timeout_s=call_timeout_s,
        )

    async def look(self, state_dir: Path) -> Engine | None:
        """Is this a database we can write to? None when it cannot be reached just now but could be before.

        A database that never answered this state directory is taken for a mistake in the configuration and the error
        is raised; one that did is down, and capture goes on into the journal. A schema that does not fit always raises.
        """
        seen = state_dir / _SEEN
        try:
            database = await self.connect_bounded()
            try:
                engine = await check_schema(database)
            finally:
                await database.close()
        except (ConnectionLost, DatabaseError) as error:
            if not seen.exists():
                raise
            log.error("database_unreachable_at_start", error=str(error), until_then="records are kept in the journal")
            return None
        if not seen.exists():
            state_files.replace(seen, f"{redacted_url(str(database.target))}\n".encode(), synced=False)
        return engine
