"""What the daemon reports of itself in `audit.system_events`: its starts, stops and changes of its configuration.

Gaps, rejected records, failovers and negative balances get their rows from the database, with what they are about.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from ingestd.storage.database import Database

Severity: TypeAlias = Literal["INFO", "WARNING", "ERROR", "CRITICAL"]

_MOST_WAITING = 1000  # while the database is away; the oldest are given up
_INSERT = (
    "INSERT INTO audit.system_events (id, timestamp, event_type, severity, component, message, metadata)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb) ON CONFLICT (id) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class SystemEvent:
    """One row. Its id is given here, so that it is stored once although an attempt may be repeated."""

    event_type: str
    severity: Severity
    message: str
    metadata: dict[str, Any]
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class SystemEvents:
    """Events of one daemon that wait to be stored. A daemon without a database stores none."""

    def __init__(self, component: str) -> None:
        self._component = component
        self.waiting: deque[SystemEvent] = deque(maxlen=_MOST_WAITING)

    def note(self, event_type: str, severity: Severity, message: str, **metadata: Any) -> None:
        """Take an event, to be stored soon. Never waits."""
        self.waiting.append(SystemEvent(event_type, severity, message, metadata))

    async def store(self, database: Database) -> None:
        """Store what waits, oldest first."""
        while self.waiting:
            event = self.waiting[0]
            told = json.dumps(event.metadata, default=str)
            said = (event.event_type, event.severity, self._component, event.message, told)
            await database.execute(_INSERT, event.id, event.at, *said)
            if self.waiting and self.waiting[0] is event:  # it may have been given up meanwhile
                self.waiting.popleft()
