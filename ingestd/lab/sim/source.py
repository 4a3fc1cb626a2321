"""What the server serves: a recorded capture (`replay`), or generated markets (`synthetic`, `volley`)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ingestd.lab.sim.faults import Fault, FaultError
from ingestd.lab.sim.hub import Connection, Hub
from ingestd.lab.sim.ledger import Ledger
from ingestd.lab.sim.switch import Switch
from ingestd.lab.sim.venues.base import RestAnswer, RestCall, Stream, Venue


class Adaptations:
    """Lists each deviation from the recording once (`GET /_sim/adaptations`)."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str, str], None] = {}

    def note(self, kind: str, asked: str, sent: str) -> None:
        """`kind` is stream, envelope, rest, snapshot or unavailable."""
        self._notes[(kind, asked, sent)] = None

    def as_list(self) -> list[dict[str, str]]:
        """The adaptations in order of first occurrence."""
        return [{"kind": kind, "asked": asked, "sent": sent} for kind, asked, sent in self._notes]


class Source(ABC):
    """A source of frames and REST answers. `quiet_s`: see `Switch`."""

    symbols: dict[str, str]  # unified symbol → market id

    def __init__(self, venue: Venue, ledger: Ledger, quiet_s: float | None) -> None:
        self.venue = venue
        self.ledger = ledger
        self.switch = Switch(quiet_s)
        self.adaptations = Adaptations()
        self.finished = False  # nothing is left to send

    @abstractmethod
    async def run(self, hub: Hub) -> None:
        """Publish until nothing is left or until cancelled."""

    @abstractmethod
    def resolve(self, asked: str, host: str) -> Stream | None:
        """Return the stream that answers a subscription, or None if it stays silent."""

    def opening_frames(self, stream: Stream) -> list[str]:
        """The first frames for a new subscriber."""
        return []

    @abstractmethod
    def subscribed(self, connection: Connection, stream: Stream) -> None:
        """Note a client's subscription."""

    @abstractmethod
    def rest(self, call: RestCall) -> RestAnswer | None:
        """Answer a REST request; None: 404."""

    async def misbehave(self, fault: Fault, market_id: str | None, hub: Hub) -> int:
        """Apply `burst`, `duplicate` or `id_jump` and count the affected trades. Raises `FaultError` for others."""
        raise FaultError(f"this venue cannot do {fault.kind}")

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """The source's state, for the ledger's summary."""
