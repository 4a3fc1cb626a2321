"""What the server serves: a recorded capture (`replay`), or generated markets (`synthetic`, `volley`)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from ingestd.clock import monotonic_s
from ingestd.lab.sim.faults import Fault, FaultError
from ingestd.lab.sim.hub import Connection, Hub
from ingestd.lab.sim.ledger import Ledger
from ingestd.lab.sim.venues.base import RestAnswer, RestCall, Stream, Venue


class Switch:
    """`quiet_s`: seconds after the last subscribe message at which emission starts; None: only `start()` starts it."""

    def __init__(self, quiet_s: float | None) -> None:
        self._quiet_s = quiet_s
        self._on = asyncio.Event()
        self._touched = asyncio.Event()
        self._last_subscribed: float | None = None
        self.turn = asyncio.Lock()  # held while frames are being published and flushed
        self.stopped_by_hand = False

    @property
    def is_on(self) -> bool:
        return self._on.is_set()

    def subscribed(self) -> None:
        """Restart the quiet period, because a client subscribed."""
        self._last_subscribed = monotonic_s()
        self._touched.set()

    def start(self) -> None:
        self.stopped_by_hand = False
        self._on.set()
        self._touched.set()

    async def stop(self) -> None:
        """Stop the emission; returns once frames being sent are flushed."""
        self.stopped_by_hand = True
        self._on.clear()
        async with self.turn:
            pass

    async def until_on(self) -> None:
        """Wait until the emission is on."""
        while not self._on.is_set():
            self._touched.clear()
            left_s = None
            if self._quiet_s is not None and self._last_subscribed is not None and not self.stopped_by_hand:
                left_s = self._last_subscribed + self._quiet_s - monotonic_s()
                if left_s <= 0:
                    self.start()
                    return
            try:
                await asyncio.wait_for(self._touched.wait(), left_s)
            except TimeoutError:
                pass  # the quiet period may be over; checked above


class Source(ABC):
    """A source of frames and REST answers. `quiet_s`: see `Switch`; `deduplicate`: see `Ledger`."""

    symbols: dict[str, str]  # unified symbol → market id

    def __init__(self, venue: Venue, quiet_s: float | None, *, deduplicate: bool) -> None:
        self.venue = venue
        self.ledger = Ledger(venue, deduplicate=deduplicate)
        self.switch = Switch(quiet_s)
        self.finished = False  # nothing is left to send
        self._adaptations: dict[tuple[str, str, str], None] = {}

    def adapted(self, kind: str, asked: str, sent: str) -> None:
        """Note a deviation from the recording; `kind` is stream, envelope, rest, snapshot or unavailable."""
        self._adaptations[(kind, asked, sent)] = None

    def adaptations(self) -> list[dict[str, str]]:
        """Each deviation once, in order of first occurrence."""
        return [{"kind": kind, "asked": asked, "sent": sent} for kind, asked, sent in self._adaptations]

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
