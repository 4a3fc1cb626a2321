"""Reads messages of the market topics and stores them as records, for the role `sink`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from ingestd.channels import ROWS
from ingestd.clock import now_us
from ingestd.errors import EnvelopeError
from ingestd.kafka import envelope
from ingestd.kafka.envelope import TopicKind
from ingestd.kafka.messages import Message, Unreadable
from ingestd.ops.metrics import Metrics, count_by
from ingestd.ops.rejections import Rejections
from ingestd.records import FeedGap, Funding, Record, Rejected, StreamId
from ingestd.sources.base import Item
from ingestd.sources.marks import journal_place
from ingestd.storage import symbols
from ingestd.storage.database import Database
from ingestd.storage.writer.positions import Mark, Move
from ingestd.storage.writer.writer import prepare, write
from ingestd.validation import OLDEST_TIME_US, TimeWindow, as_short_json, is_name, rejection_reason, storable_text
from ingestd.venues.market_names import UNKNOWN_MARKET, Names

log = structlog.get_logger()

_REJECTIONS = "rejections"
_TABLES: dict[TopicKind, str] = {
    **{row.name: row.table for row in ROWS},
    "gaps": "feed_gaps",
    "rejected": "rejected_records",
}
_LONGEST_VALUE_KEPT = 10_000
_NEWEST_TIME_US = 7_258_118_400_000_000  # 2200-01-01: for times that validation's window does not cover
_MAX_TEXT = 2000


class MarketStore:
    """The store of the market topics. It uses the writer that also stores the journal's batches."""

    name = "market"
    uses_marks = True

    def __init__(
        self, prefix: str, time_window: Callable[[int], TimeWindow], metrics: Metrics, *, sent: Names, stored: Names
    ) -> None:
        """`sent`, `stored`: the styles in which messages and tables hold symbols."""
        self._sent, self._stored = sent, stored
        self._kinds = envelope.topics(prefix)
        self._time_window = time_window
        self._metrics = metrics
        self.rejections = Rejections(metrics)

    def topics(self) -> list[str]:
        """Every market topic."""
        return list(self._kinds)

    def read(self, messages: Sequence[Message]) -> list[Item]:
        """Read a record from each message. An unreadable or unfit one becomes a row of `rejected_records`."""
        now = now_us()
        window = self._time_window(now)
        return [self._item(message, window, now) for message in messages]

    def _item(self, message: Message, window: TimeWindow, now: int) -> Item:
        kind = self._kinds[message.topic]
        table, channel = _TABLES[kind], _REJECTIONS if kind == "rejected" else kind
        part, place = (message.topic, message.partition), journal_place(message)
        try:
            decoded = envelope.decode(kind, message.value or b"")
            known = self._unified(decoded, message)
            record, reason = (decoded, UNKNOWN_MARKET) if known is None else (known, unfit(known, window))
            if reason is None:
                if self.rejections:
                    self.rejections.end((record.exchange, channel, record.symbol))
                    self.rejections.end(_all_of(message, channel))
                return Item(part, message.offset, channel, record.exchange, record, None, place)
            self.rejections.reject(_stream_of(record, message, channel), reason)
            return Item(part, message.offset, channel, "", _refused(record, message, table, now, reason), reason, place)
        except Exception as error:  # noqa: BLE001 # whatever a message holds, it costs only itself
            content = rejected_message(message, table, now, why(error, message))
            self.rejections.reject(_all_of(message, channel), content.reason)
            return Item(part, message.offset, channel, "", content, content.reason, place)

    def _unified(self, record: Record, message: Message) -> Record | None:
        """The record with the unified symbol: that of the message's header, else the one that its name stands for; None
        if no market is known by that name.

        A daemon's message without that header has the unified symbol; it may be of before the style was changed.
        """
        if isinstance(record, Rejected):
            return record
        headers = {name: value for name, value in message.headers if value}
        name, symbol = record.symbol, None
        if (said := headers.get(envelope.SYMBOL_HEADER)) is not None:
            try:
                symbol = said.decode()
            except UnicodeDecodeError as error:
                raise EnvelopeError(f"the header {envelope.SYMBOL_HEADER} is not UTF-8") from error
        elif envelope.POSITION_HEADER in headers:
            return record
        elif (symbol := self._sent.meant(record.exchange, name)) is None:
            return None
        if symbol == name:
            return record
        if self._sent.style == "venue" and is_name(record.exchange) and is_name(name) and is_name(symbol):
            self._sent.known.hear(record.exchange, symbol, name)
        return msgspec.structs.replace(record, symbol=symbol)

    def prepare(self, items: Sequence[Item], moves: Sequence[Move], marks: Mapping[str, Mark | None]) -> MarketFlush:
        """Prepare one transaction of `storage.writer`."""
        return MarketFlush(self.name, items, moves, marks, self._metrics, self._stored)

    def taken_over(self) -> None:
        """Do nothing: this store remembers nothing."""


class MarketFlush:
    """One transaction: records, positions and marks."""

    def __init__(
        self,
        sink: str,
        items: Sequence[Item],
        moves: Sequence[Move],
        marks: Mapping[str, Mark | None],
        metrics: Metrics,
        names: Names,
    ) -> None:
        self._sink = sink
        self._items = items
        self._metrics = metrics
        self._prepared = partial(
            prepare, moves, [item.content for item in items], names, marks=marks, origin=self._origin
        )
        self._flush = self._prepared()

    async def write(self, database: Database) -> None:
        if await symbols.keep_heard(database):
            self._flush = self._prepared()
        await write(database, self._flush)

    def committed(self, took_s: float) -> None:
        rejected: Counter[tuple[str, ...]] = Counter(
            (item.channel, item.rejected) for item in self._items if item.rejected is not None
        )
        # A message stored as a row of `rejected_records` counts as a rejection of its channel, not as a stored row; and
        # only once, even if the server refused that row too.
        outcome = self._flush.outcome
        of_others = {id(item.content) for item in self._items if item.rejected is not None}
        shortened = [bad for bad in outcome.bad if id(bad.record) in of_others]
        outcome.bad = [bad for bad in outcome.bad if id(bad.record) not in of_others]
        if _REJECTIONS in outcome.stored:
            outcome.stored[_REJECTIONS] -= rejected.total() - len(shortened)
        outcome.count(self._metrics, self._sink, took_s)
        count_by(self._metrics.rejected, rejected)
        if self._items:
            age_s = max(0, now_us() - self._items[0].content.received_at) / 1e6
            self._metrics.commit_latency_s.labels(self._sink).observe(age_s)

    def _origin(self, record: Record) -> str:
        return next((str(item) for item in self._items if item.content is record), "origin unknown")


def unfit(record: Record, window: TimeWindow) -> str | None:
    """The reason why a record cannot be stored; None if it can. Any program may have published it."""
    if not OLDEST_TIME_US <= record.received_at <= window.newest:
        return "received_at"
    if isinstance(record, Rejected):
        return None if _fits(record.table, record.reason) and _is_json(record.record) else "text"
    if isinstance(record, FeedGap):
        names = (record.exchange, record.symbol, record.channel)
        times = (record.time, record.received_at if record.ended_at is None else record.ended_at)
        if not all(map(is_name, names)) or not _fits(record.cause, record.detail or "-"):
            return "text"
        return None if all(OLDEST_TIME_US <= time <= _NEWEST_TIME_US for time in times) else "time"
    if isinstance(record, Funding) and not 0 <= (record.next_funding_time or 0) <= _NEWEST_TIME_US:
        return "next_funding_time"
    return rejection_reason(record, window)


def rejected_message(message: Message, table: str, now: int, error: str) -> Rejected:
    """The row of `rejected_records` for a message that cannot be read, with its place in Kafka."""
    if isinstance(message, Unreadable):
        place = {**_place(message), "first_offset": message.first_offset, "error": storable_text(message.error)}
        return Rejected("", "", now, now, table, message.reason, json.dumps(place))
    document = {
        **_place(message),
        "key": None if message.key is None else _beginning(message.key),
        "value": _beginning(message.value or b""),
        "value_bytes": len(message.value or b""),
        "error": storable_text(error[:_MAX_TEXT]),  # msgspec quotes unknown names whole
    }
    return Rejected("", "", now, now, table, "poison", json.dumps(document))


def _beginning(data: bytes) -> str:
    """The first characters as text. Only these are decoded, because escaping megabytes takes seconds."""
    text = data[: 4 * _LONGEST_VALUE_KEPT].decode("utf-8", "backslashreplace")
    return storable_text(text[:_LONGEST_VALUE_KEPT])


def why(error: Exception, message: Message) -> str:
    """The reason why a message could not be read. An unforeseen error is a bug of ours, and is logged as one."""
    if isinstance(error, EnvelopeError) or isinstance(message, Unreadable):
        return str(error)
    log.error("message_not_understood", **_place(message), exc_info=error)
    return f"{type(error).__name__}: {error}"


def _refused(record: Record, message: Message, table: str, now: int, reason: str) -> Rejected:
    """The row of `rejected_records` for a record that may not be stored, with its place in Kafka."""
    document = {**json.loads(as_short_json(record)), **_place(message)}
    return Rejected("", "", now, now, table, reason, json.dumps(document))


def _stream_of(record: Record, message: Message, channel: str) -> StreamId:
    """The record's stream, or the stream of its partition if its names are not valid."""
    stream = record.exchange, channel, record.symbol
    return stream if all(map(is_name, stream)) else _all_of(message, channel)


def _all_of(message: Message, channel: str) -> StreamId:
    """The stream to name for a message that does not tell its own: all of its partition."""
    return f"the topic {message.topic}", channel, f"partition {message.partition}"


def _place(message: Message) -> dict[str, Any]:
    return {"topic": message.topic, "partition": message.partition, "offset": message.offset}


def _fits(*texts: str) -> bool:
    return all(0 < len(text) <= _MAX_TEXT and text.isprintable() for text in texts)


def _is_json(text: str) -> bool:
    """Whether JSONB accepts the text: valid JSON without characters that PostgreSQL's text cannot hold."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return text.isprintable() and "\\u0000" not in text and "\\ud" not in text.lower()
