"""What the server serves: a recorded capture (`replay`) or a generated market (`synthetic`)."""

from __future__ import annotations

from typing import Protocol

from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.hub import Connection, Hub
from ingestd.lab.sim.switch import Switch
from ingestd.lab.sim.venues.base import RestAnswer, RestCall, Stream, Venue


class Adaptations:
    """What is not served as recorded, once each, as data (`GET /_sim/adaptations`)."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, str, str], None] = {}

    def note(self, kind: str, asked: str, sent: str) -> None:
        """`kind` is stream, envelope, rest, snapshot or unavailable."""
        self._notes[(kind, asked, sent)] = None

    def as_list(self) -> list[dict[str, str]]:
        """In the order they first happened."""
        return [{"kind": kind, "asked": asked, "sent": sent} for kind, asked, sent in self._notes]


class Source(Protocol):
    """One market."""

    symbols: dict[str, str]  # unified symbol → market id
    switch: Switch
    adaptations: Adaptations
    finished: bool  # there is nothing left to send

    @property
    def venue(self) -> Venue:
        """Whose frames, subscriptions and hosts these are."""

    async def run(self, hub: Hub) -> None:
        """Publish until there is nothing left, or for ever; cancelled at the end."""

    def resolve(self, asked: str, host: str) -> Stream | None:
        """The stream that answers a subscription, or None for one that stays silent."""

    def opening_frames(self, stream: Stream) -> list[str]:
        """What a new subscriber gets first."""

    def subscribed(self, connection: Connection, stream: Stream) -> None:
        """A client subscribed."""

    def rest(self, call: RestCall) -> RestAnswer | None:
        """Answer a REST request; None: 404."""

    async def misbehave(self, fault: Fault, market_id: str | None, hub: Hub) -> int:
        """`burst`, `duplicate` or `id_jump`; how many trades it touched. Raises `FaultError` for others."""

    def describe(self) -> dict[str, object]:
        """What the ledger shows besides the counts."""
