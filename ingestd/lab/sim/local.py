"""Runs a venue in this process, a source with its server, for the length of an `async with` block."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Generic, TypeVar

from ingestd.lab.sim.faults import Scheduled
from ingestd.lab.sim.ledger import Ledger
from ingestd.lab.sim.server import SimServer
from ingestd.lab.sim.source import Source

S = TypeVar("S", bound=Source)


class LocalVenue(Generic[S]):
    """`async with replay_venue(path) as venue: venue.url_map`; also `synthetic_venue` and `volley_venue`."""

    def __init__(self, source: S, ledger: Ledger, *, port: int = 0, schedule: Sequence[Scheduled] = ()) -> None:
        self.source = source
        self.ledger = ledger
        self.server = SimServer(source, ledger, schedule)
        self.exchange = source.venue.exchange
        self.symbols = source.symbols
        self._port = port

    @property
    def url_map(self) -> dict[str, str]:
        """Real URL prefix → local URL prefix."""
        return self.server.url_map

    async def __aenter__(self) -> LocalVenue[S]:
        await self.server.start(self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.close()
