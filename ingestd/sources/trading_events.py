"""Stores the events that trading programs publish, as orders, executions, completed trades and an audit log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from ingestd.clock import now_us, to_datetime
from ingestd.errors import DatabaseError, EnvelopeError, may_be_of_a_row
from ingestd.events.messages import EVENT_TYPES, Event, Snapshot, read_event
from ingestd.events.tables import Change, store_events
from ingestd.kafka.messages import Message
from ingestd.ops.metrics import Metrics, count_by
from ingestd.records import Rejected
from ingestd.sinks.base import OrderCache
from ingestd.sources.base import Item
from ingestd.sources.market_topics import rejected_message, why
from ingestd.storage.database import Database
from ingestd.storage.writer.positions import Mark, Move, advance
from ingestd.storage.writer.refused import Kept, is_blamed, put_aside, require_some_taken


class EventTopics:
    """Reads the messages of the event topics and prepares the transactions that store them."""

    name = "events"
    uses_marks = False

    def __init__(
        self, prefix: str, metrics: Metrics, caches: Sequence[OrderCache] = (), *, default_exchange: str | None = None
    ) -> None:
        """`default_exchange` is that of events which name none."""
        self._types = {f"{prefix}.{event.topic}": name for name, event in EVENT_TYPES.items()}
        self._metrics = metrics
        self._caches = caches
        self._default_exchange = default_exchange

    def taken_over(self) -> None:
        """Forget cached orders: another member may have stored events of these partitions meanwhile."""
        for cache in self._caches:
            cache.forget_orders()

    def topics(self) -> list[str]:
        """The event topics."""
        return list(self._types)

    def read(self, messages: Sequence[Message]) -> list[Item]:
        """Read an event from each message. A message that is no valid event becomes a row of `rejected_records`."""
        now = now_us()
        return [self._item(message, now) for message in messages]

    def _item(self, message: Message, now: int) -> Item:
        event_type = self._types[message.topic]
        kind = EVENT_TYPES[event_type]
        part, channel = (message.topic, message.partition), kind.topic.replace(".", "_")
        try:
            event = read_event(event_type, message.value or b"", message.headers, to_datetime(now))
            self._require_exchange(event)
        except Exception as error:  # noqa: BLE001 # whatever a message holds, it costs only itself
            content = rejected_message(message, kind.table, now, why(error, message))
            return Item(part, message.offset, channel, "", content, content.reason)
        return Item(part, message.offset, channel, event.exchange or self._default_exchange or "", event)

    def _require_exchange(self, event: Event) -> None:
        """Raise EnvelopeError for balances of no exchange: they could not be told from those of another one."""
        if isinstance(event, Snapshot) and event.exchange is None and self._default_exchange is None:
            raise EnvelopeError("data.exchange is missing, and events.default_exchange is not set")

    def prepare(
        self,
        items: Sequence[Item],
        moves: Sequence[Move],
        marks: Mapping[str, Mark | None],  # noqa: ARG002 # there are none: events have ids
    ) -> EventFlush:
        """Prepare one transaction over all event tables."""
        return EventFlush(self.name, items, moves, self._metrics, self._caches, self._default_exchange)


@dataclass
class EventFlush:
    """One transaction that stores events and moves positions.

    An attempt stores all events at once. If the server refuses it because of an event, the next one finds out which.
    """

    sink: str
    items: Sequence[Item]
    moves: Sequence[Move]
    metrics: Metrics
    caches: Sequence[OrderCache]
    default_exchange: str | None
    _in_parts: bool = False  # the server refused one of the events: find out which one
    _doubts: int = 0  # failures so far with an unknown error that one of the events may have caused
    _changes: list[Change] = field(default_factory=list)
    _refused: list[tuple[Item, DatabaseError]] = field(default_factory=list)

    async def write(self, database: Database) -> None:
        while True:
            try:
                await self._attempt(database)
            except DatabaseError as error:
                if not is_blamed(error, self._doubts) and may_be_of_a_row(error):
                    self._doubts += 1
                if self._in_parts or not is_blamed(error, self._doubts):
                    self._in_parts = False  # the next attempt tries all events at once
                    raise
                self._in_parts = True
            else:
                return

    async def _attempt(self, database: Database) -> None:
        good = [item for item in self.items if item.rejected is None]
        async with database.transaction():
            if self._in_parts:
                await database.script("SET CONSTRAINTS ALL IMMEDIATE")  # otherwise some are checked only at the commit
            await advance(database, self.moves)
            if self._in_parts:
                changes, refused = await self._store_in_parts(database, good)
            else:
                changes, refused = [await self._store(database, good)] if good else [], []
            kept = [_kept(item.content) for item in self.items if item.rejected is not None]
            await put_aside(database, [*kept, *(_kept_event(item, error) for item, error in refused)])
            self._changes, self._refused = changes, refused

    async def _store(self, database: Database, items: Sequence[Item]) -> Change:
        return await store_events(database, [item.content for item in items], self.default_exchange)

    async def _store_in_parts(
        self, database: Database, items: Sequence[Item]
    ) -> tuple[list[Change], list[tuple[Item, DatabaseError]]]:
        """Store the events; bisect to find those that the server refuses, and return them."""
        changes: list[Change] = []
        refused: list[tuple[Item, DatabaseError]] = []
        parts = [items] if items else []
        while parts:
            part = parts.pop()
            try:
                async with database.savepoint():
                    change = await self._store(database, part)
            except DatabaseError as error:
                if not is_blamed(error, self._doubts):
                    raise
                if len(part) == 1:
                    refused.append((part[0], error))
                else:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
            else:
                changes.append(change)
        new = _new(changes)
        _require_some_taken(items, refused, Counter(item.channel for item in items if item.content.id in new))
        return changes, refused

    def committed(self, took_s: float) -> None:
        refused = {id(item): error for item, error in self._refused}
        rejected: Counter[tuple[str, ...]] = Counter()
        stored: Counter[tuple[str, ...]] = Counter()
        duplicate: Counter[tuple[str, ...]] = Counter()
        left = _new(self._changes)
        for item in self.items:
            if item.rejected is not None:
                rejected[item.channel, item.rejected] += 1
            elif id(item) in refused:
                rejected[item.channel, f"server_{refused[id(item)].sqlstate}"] += 1
            elif item.content.id in left:
                left.remove(item.content.id)
                stored[self.sink, item.channel] += 1
            else:
                duplicate[self.sink, item.channel] += 1
        count_by(self.metrics.rejected, rejected)
        count_by(self.metrics.stored, stored)
        count_by(self.metrics.duplicate, duplicate)
        self.metrics.flushes.labels(self.sink).inc()
        self.metrics.flush_s.labels(self.sink).observe(took_s)
        orders = {order_id: shown for change in self._changes for order_id, shown in change.orders.items()}
        for order_id, shown in orders.items():
            for cache in self.caches:
                cache.order_update(order_id, shown.fields, shown.market)


def _new(changes: Sequence[Change]) -> set[UUID]:
    return {new for change in changes for new in change.new}


def _require_some_taken(
    items: Sequence[Item], refused: Sequence[tuple[Item, DatabaseError]], stored: Counter[str]
) -> None:
    """Raise NoneTaken if the refusals of one kind of event are the tables' fault: see `require_some_taken`."""
    tried = Counter(item.channel for item in items)
    for channel in {item.channel for item, _ in refused}:
        errors = [error for item, error in refused if item.channel == channel]
        sent, passed = tried[channel], tried[channel] - len(errors)
        require_some_taken("the tables take", channel, errors, tried=sent, passed=passed, stored=stored[channel])


def _kept(content: Rejected) -> Kept:
    return Kept(content.received_at, content.table, content.reason, None, content.record, None)


def _kept_event(item: Item, error: DatabaseError) -> Kept:
    event = item.content
    return Kept(now_us(), event.table, "server", error.sqlstate, event.data, f"{error} ({item})")
