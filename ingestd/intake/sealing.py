"""The steps of sealing open records into a batch: choose how many, validate them, count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TypeAlias

from ingestd import validation
from ingestd.channels import CHANNEL_OF, TABLE_OF, channel_of, stream_of
from ingestd.ops.metrics import Metrics, count_by
from ingestd.ops.rejections import Rejections
from ingestd.records import BookSnapshot, FeedGap, MarketRecord, Record, Rejected, encode_batch

# The order books of a batch have at most this size together: encoding more would block the event loop too long.
_MAX_BATCH_BOOK_BYTES = 2 * 2**20
_LEVEL_BYTES = 24  # about, for one price level

RejectedCounts: TypeAlias = Counter[tuple[str, ...]]  # by channel and reason
_ExchangeAndType: TypeAlias = tuple[str, type]  # exchange and record type
_exchange_and_type: Callable[[MarketRecord | FeedGap], _ExchangeAndType] = attrgetter("exchange", "__class__")


def batch_size(records: Sequence[MarketRecord | FeedGap], most: int) -> int:
    """How many of the first records go into the next batch: at most `most`, and fewer where order books are large."""
    size = min(len(records), most)
    if not any(type(record) is BookSnapshot for record in records[:size]):
        return size
    total = 0
    for index, record in enumerate(records[:size]):
        if type(record) is BookSnapshot:
            total += _LEVEL_BYTES * (len(record.bids) + len(record.asks))
        if total > _MAX_BATCH_BOOK_BYTES:
            return max(1, index)
    return size


def validated(
    taken: Sequence[MarketRecord | FeedGap], window: validation.TimeWindow, rejections: Rejections, *, known_valid: bool
) -> tuple[list[Record], RejectedCounts]:
    """Return the records to journal, with a rejection in place of each invalid one, and the number of rejections."""
    if known_valid or validation.all_valid(taken, window):
        if rejections:
            for record in taken:
                if not isinstance(record, FeedGap):
                    rejections.end(stream_of(record))
        return [*taken], Counter()
    rejected: RejectedCounts = Counter()
    records: list[Record] = []
    for record in taken:
        if isinstance(record, FeedGap):
            records.append(validation.storable_gap(record))
            continue
        reason = validation.rejection_reason(record, window)
        if reason is None:
            records.append(record)
            if rejections:
                rejections.end(stream_of(record))
        else:
            rejections.reject(stream_of(record), reason)
            records.append(validation.rejection(record, TABLE_OF[type(record)], reason))
            rejected[channel_of(record), reason] += 1
    return records, rejected


def put_unencodable_aside(records: list[Record]) -> RejectedCounts:
    """Replace each record that cannot be encoded by a rejection. Returns how many there are."""
    rejected: RejectedCounts = Counter()
    for index, record in enumerate(records):
        try:
            encode_batch([record])
        except (TypeError, ValueError, OverflowError):
            if isinstance(record, (FeedGap, Rejected)):
                raise
            rejected[channel_of(record), "encode"] += 1
            records[index] = validation.rejection(record, TABLE_OF[type(record)], "encode")
    return rejected


def count_received(metrics: Metrics, records: Sequence[MarketRecord | FeedGap]) -> set[_ExchangeAndType]:
    """Count the records by exchange and channel. Returns the pairs of exchange and record type that occur."""
    kinds = {kind: count for kind, count in Counter(map(_exchange_and_type, records)).items() if kind[1] is not FeedGap}
    count_by(metrics.received, {(exchange, CHANNEL_OF[kind]): count for (exchange, kind), count in kinds.items()})
    return set(kinds)


def observe_latency(
    metrics: Metrics, kinds: Iterable[_ExchangeAndType], records: Sequence[MarketRecord | FeedGap]
) -> None:
    """Observe the latency of the last record of each exchange and type."""
    wanted = set(kinds)
    for record in reversed(records):
        if (kind := _exchange_and_type(record)) in wanted:
            labels = record.exchange, channel_of(record)
            late_s = (record.received_at - record.time) / 1e6
            metrics.exchange_latency_s.labels(*labels).observe(max(0.0, late_s))
            metrics.exchange_ahead_s.labels(*labels).set(-late_s)
            wanted.remove(kind)
            if not wanted:
                return
