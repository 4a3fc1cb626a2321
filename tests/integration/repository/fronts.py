"""The repository's two fronts under one interface: each call in a transaction of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Engine

from ingestd import repository
from ingestd.repository import aio, session_scope


class Front(Protocol):
    """Calls a function of the repository by its name."""

    async def call(self, function: str, *args: Any, **options: Any) -> Any:
        """In a transaction that is committed."""

    async def abandoned(self, function: str, *args: Any, **options: Any) -> Any:
        """In a transaction that is rolled back."""


class Abandoned(Exception):
    """Ends a transaction."""


@dataclass
class OnSqlAlchemy:
    engine: Engine

    async def call(self, function: str, *args: Any, **options: Any) -> Any:
        def work() -> Any:
            with session_scope(engine=self.engine) as session:
                return getattr(repository, function)(session, *args, **options)

        return await asyncio.to_thread(work)

    async def abandoned(self, function: str, *args: Any, **options: Any) -> Any:
        def work() -> Any:
            result = None
            try:
                with session_scope(engine=self.engine) as session:
                    result = getattr(repository, function)(session, *args, **options)
                    raise Abandoned
            except Abandoned:
                return result

        return await asyncio.to_thread(work)


@dataclass
class OnAsyncpg:
    dsn: str

    async def call(self, function: str, *args: Any, **options: Any) -> Any:
        async with aio.session_scope(self.dsn) as db:
            return await getattr(aio, function)(db, *args, **options)

    async def abandoned(self, function: str, *args: Any, **options: Any) -> Any:
        result = None
        try:
            async with aio.session_scope(self.dsn) as db:
                result = await getattr(aio, function)(db, *args, **options)
                raise Abandoned
        except Abandoned:
            return result
