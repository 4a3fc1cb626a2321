"""Opens the daemon's connections, and checks the database before the start."""

from __future__ import annotations

from pathlib import Path

import structlog

from ingestd import files
from ingestd.config.models import Config
from ingestd.errors import ConfigError, ConnectionLost, DatabaseError, Problem
from ingestd.storage import symbol_style
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migrate import check_schema
from ingestd.storage.rights import missing_grants
from ingestd.venues.market_names import KnownMarkets, Names

log = structlog.get_logger()

# This file is made when the database was reached once: from then on its absence is an outage, not a mistake.
_SEEN = "database-seen"
_MISTAKES = ("28", "3D", "42")  # SQLSTATE classes: wrong role or password, wrong database, a missing right


class DatabaseAccess:
    """Opens connections as configured; reads the password file each time, since passwords are rotated."""

    def __init__(self, config: Config, known: KnownMarkets | None = None) -> None:
        """`known`: the markets that the daemon knows of; None: those of the table `symbols` alone."""
        if config.database is None:
            raise ConfigError([Problem("database", "is missing", hint="add [database] with a dsn")])
        self._config = config.database
        self.names = Names(config.database.symbol_style, known)
        self._instance = config.instance.name
        self._role = config.instance.role

    async def connect_bounded(self) -> Database:
        """Open a connection on which every call ends within `database.flush_timeout_s`.

        Raises SchemaError if the tables hold symbols in another style than is configured.
        """
        database = await self.connect(call_timeout_s=self._config.flush_timeout_s)
        try:
            await symbol_style.require(database)
        except BaseException:
            database.terminate()
            raise
        return database

    async def connect(self, *, call_timeout_s: float | None) -> Database:
        """Open a connection on which every call ends within `call_timeout_s`; None: no limit."""
        return await Database.connect(
            self._config.resolved_dsn(),
            dsn_from=self._config.password_from(),
            application_name=f"ingestd {self._instance}",
            connect_timeout_s=self._config.connect_timeout_s,
            lock_timeout_s=self._config.lock_timeout_s,
            call_timeout_s=call_timeout_s,
            names=self.names,
        )

    async def look(self, state_dir: Path) -> Engine | None:
        """Check whether this database can be written to. None: it does not answer; capture goes on meanwhile.

        Raises SchemaError if the schema does not fit. Raises DatabaseError if the database does not exist or refuses
        the role, and this state directory was never connected to it: then the configuration is wrong. Each right that
        the role lacks is logged with its GRANT; the tables that it may write are written all the same.
        """
        seen = state_dir / _SEEN
        try:
            database = await self.connect_bounded()
            try:
                engine = await check_schema(database, self._config.packs)
                grants = await missing_grants(database, engine)
            finally:
                await database.close()
        except (ConnectionLost, DatabaseError) as error:
            if isinstance(error, DatabaseError) and error.sqlstate.startswith(_MISTAKES) and not seen.exists():
                raise
            if self._role == "sink":
                meanwhile = "nothing is stored, Kafka keeps the messages"
            elif seen.exists():
                meanwhile = "the journal keeps what is captured"
            else:
                meanwhile = "nothing is captured, until the database says who leads"
            log.error("database_unreachable_at_start", error=str(error), until_then=meanwhile)
            return None
        for grant in grants:
            log.error("database_right_missing", database=str(database.target), remedy=grant)
        if not seen.exists():
            files.replace(seen, f"{database.target}\n".encode())
        return engine
