"""Our own side of the database with a fault in it: a commit whose reply is lost, an access that leads elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import ClassVar

from ingestd.config.models import Config
from ingestd.errors import ConnectionLost
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from tests.support.postgres import default_config


class LosesReplies(Database):
    """Commits, and loses the reply to each commit for which `losing` yields true, until it ends."""

    losing: ClassVar[Iterator[bool]] = iter(())
    lost: ClassVar[int] = 0

    @classmethod
    def lose(cls, losing: Iterator[bool]) -> None:
        """Begin anew, for this test."""
        cls.losing, cls.lost = losing, 0

    @asynccontextmanager
    async def transaction(self, **limits: float | None) -> AsyncIterator[None]:
        async with super().transaction(**limits):
            yield
        if next(LosesReplies.losing, False):
            LosesReplies.lost += 1
            self.terminate()
            raise ConnectionLost("the reply was lost")


class MovableAccess(DatabaseAccess):
    """Connects to one database, and after `move` to another."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.goes_to = DatabaseAccess(config)
        self.newest: Database | None = None  # the connection that was opened last

    def move(self, dsn: str) -> None:
        """From now on every new connection is made there."""
        self.goes_to = DatabaseAccess(default_config(database={"dsn": dsn}))

    def cut(self) -> None:
        """Drop the newest connection without a word to the server."""
        if self.newest is not None:
            self.newest.terminate()

    async def connect(self, *, call_timeout_s: float | None) -> Database:
        self.newest = await self.goes_to.connect(call_timeout_s=call_timeout_s)
        return self.newest
