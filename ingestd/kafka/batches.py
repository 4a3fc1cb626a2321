"""Reads the batches of a fetch within size limits. Unreadable messages are put aside and do not stop the others.

The client library unpacks a batch whole, and raises at each attempt to read a damaged one. Our classes replace three
of the library's (see `consumer`) and give its record readers, compiled or in Python, only unpacked batches. A batch
that exceeds a limit or cannot be read becomes one `Unreadable` with the batch's offsets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import structlog
from aiokafka.consumer import fetcher

from ingestd.kafka.batch_format import (
    LARGEST_BATCH_BYTES,
    Batch,
    Damaged,
    FetchedBatches,
    OldBatch,
    offsets_of,
    read_batch,
    size_of,
)
from ingestd.kafka.codecs import TooLarge
from ingestd.kafka.messages import Message, Part, Unreadable
from ingestd.kafka.segments import MOST_HEADERS, LargeRecord, too_many_bytes, too_many_headers
from ingestd.log_limit import LogLimit

log = structlog.get_logger()

LARGEST_MESSAGE_BYTES = 4 * 2**20
_POLL_BYTES = 4 * 2**20  # of one poll: 64 MiB of books blocked the loop for 17 s, and the server beyond a call's limit
_TRIES = 3  # fetches of a damaged batch before it is put aside: the network may have damaged it
_LARGEST_LEAP = 100_000
_LONGEST_ERROR = 1000  # the library's errors may quote a record whole
# An empty header takes two bytes of a batch and about a hundred of memory. A poll is charged for those of a message
# with more than a few; the usual ones are bounded by the number of messages.
_FEW_HEADERS = 10
_HEADER_BYTES = 100


@dataclass
class Bounds:
    """The limits of one consumer, in unpacked bytes: of a batch, of a message, and of one poll."""

    batch_bytes: int = LARGEST_BATCH_BYTES
    message_bytes: int = LARGEST_MESSAGE_BYTES
    left_bytes: int = _POLL_BYTES
    _tried: dict[Part, tuple[int, int]] = field(default_factory=dict)  # the damaged offset, and its number of fetches
    _put_aside: int = 0
    _log_limit: LogLimit = field(default_factory=LogLimit)

    def begin_poll(self) -> None:
        """Reset the byte budget for a new poll."""
        self.left_bytes = _POLL_BYTES

    def try_again(self, part: Part, offset: int) -> bool:
        """Count a fetch of a damaged batch. Return whether to fetch it again."""
        at, times = self._tried.get(part, (offset, 0))
        times = times + 1 if at == offset else 1
        self._tried[part] = offset, times
        return times < _TRIES

    def report(self, aside: Unreadable) -> None:
        """Log messages that are put aside."""
        self._put_aside += 1
        if self._log_limit.allows(f"{aside.topic} {aside.partition} {aside.reason}"):
            log.error(
                "messages_put_aside",
                topic=aside.topic,
                partition=aside.partition,
                first_offset=aside.first_offset,
                last_offset=aside.offset,
                reason=aside.reason,
                error=aside.error,
                so_far=self._put_aside,
            )


class PartitionRecords:
    """The messages of a fetch from `next_fetch_offset` on. Replaces the library's class of the same name.

    Each iteration continues where the last one stopped, and stops early at the poll's limit. `ended`: all is read.
    """

    def __init__(
        self,
        tp: Any,
        records: FetchedBatches,
        _aborted_transactions: object,
        fetch_offset: int,
        _key_deserializer: object,
        value_deserializer: object,
        *_settings: object,
    ) -> None:
        """Takes the library's arguments, of which `value_deserializer` brings the consumer's Bounds."""
        self.next_fetch_offset = fetch_offset
        self.ended = False
        self._part: Part = (tp.topic, tp.partition)
        self._batches = records
        self._bounds = value_deserializer if isinstance(value_deserializer, Bounds) else Bounds(left_bytes=sys.maxsize)
        self._open: Iterator[Message] | None = None

    def __iter__(self) -> Iterator[Message]:
        while not self.ended:
            if self._bounds.left_bytes <= 0:
                return
            if self._open is None:
                self._open = self._next_batch()
            # Not `yield from`: that would close the batch when this generator is abandoned half way.
            for message in self._open:
                self.next_fetch_offset = message.offset + 1
                yield message
                if self._bounds.left_bytes < 0:
                    return
            self._open = None

    def __next__(self) -> Message:
        return next(iter(self))

    def _next_batch(self) -> Iterator[Message]:
        data: memoryview | None = None
        try:
            data = self._batches.next_batch()
            if data is None:
                self.ended = True
                return
            batch = read_batch(data)
        except Damaged as error:
            # Stop if the bytes will be fetched again, or if no batch is complete: then the next one cannot be found.
            again = self._bounds.try_again(self._part, self.next_fetch_offset)
            self.ended = again or data is None
            if not again:
                last = self._last_of(self._batches.unread if data is None else data)
                yield self._put_aside(last, "unreadable", str(error))
            return
        if batch.last_offset < 0:
            yield self._put_aside(self.next_fetch_offset, "unreadable", f"{batch.codec} with impossible offsets")
        elif batch.last_offset < self.next_fetch_offset or batch.is_control:
            self.next_fetch_offset = max(self.next_fetch_offset, batch.last_offset + 1)
        else:
            yield from self._read(batch)

    def _last_of(self, data: memoryview) -> int:
        """The last offset of damaged bytes: the one in their header, unless it is far from the requested offset."""
        base, last = offsets_of(data)
        return last if base <= self.next_fetch_offset + _LARGEST_LEAP else self.next_fetch_offset

    def _read(self, batch: Batch | OldBatch) -> Iterator[Message]:
        """The messages of this batch from `next_fetch_offset` on."""
        expected = self.next_fetch_offset
        aside = None
        try:
            batch_bytes = self._unpack(batch)
            # A batch larger than what is left of the poll is spread over several, and charged message by message.
            by_message = batch_bytes > self._bounds.left_bytes
            if not by_message:
                self._bounds.left_bytes -= batch_bytes
            for record in batch.records(self._bounds.message_bytes):
                offset = record.offset
                if offset > batch.last_offset or offset < min(expected, batch.base_offset):
                    raise ValueError(f"a message says that its offset is {offset}")
                if offset < expected:
                    continue  # before the requested offset, which lies inside this batch
                expected = offset + 1
                if by_message:
                    self._bounds.left_bytes -= size_of(record)
                if (headers := len(record.headers)) > _FEW_HEADERS:
                    self._bounds.left_bytes -= _HEADER_BYTES * headers
                yield self._message(record, batch_bytes)
        except TooLarge as error:
            aside = "too_large", f"{batch.codec} of {batch.packed_bytes} bytes: {error}"
        except Exception as error:  # noqa: BLE001 # whatever is in it, it costs only this batch
            aside = "unreadable", f"{batch.codec} of {batch.packed_bytes} bytes: {str(error) or type(error).__name__}"
        if aside is not None and expected <= batch.last_offset:
            yield self._put_aside(batch.last_offset, *aside, expected)
        self.next_fetch_offset = max(self.next_fetch_offset, batch.last_offset + 1)

    def _message(self, record: Any, batch_bytes: int) -> Message:
        """A record of the library as a message; an Unreadable if it is too large."""
        if type(record) is LargeRecord:
            return self._put_aside(record.offset, "too_large", record.error, record.offset)
        offset, headers, largest = record.offset, record.headers, self._bounds.message_bytes
        if len(headers) > MOST_HEADERS:
            return self._put_aside(offset, "too_large", too_many_headers(len(headers)), offset)
        if batch_bytes > largest and (size := size_of(record)) > largest:
            return self._put_aside(offset, "too_large", too_many_bytes(size, largest), offset)
        return Message(*self._part, offset, record.key, record.value, tuple(headers))

    def _unpack(self, batch: Batch | OldBatch) -> int:
        """Unpack the batch, and return its size in bytes. One that is too large is charged with the largest size."""
        try:
            return batch.unpack(self._bounds.batch_bytes)
        except TooLarge:
            self._bounds.left_bytes -= self._bounds.batch_bytes
            raise

    def _put_aside(self, last: int, reason: str, error: str, first: int | None = None) -> Unreadable:
        first = self.next_fetch_offset if first is None else first
        offset, error = max(first, last), error[:_LONGEST_ERROR]
        aside = Unreadable(*self._part, offset, None, None, first_offset=first, reason=reason, error=error)
        self._bounds.report(aside)
        return aside


class FetchResult(fetcher.FetchResult):  # type: ignore[misc] # the library ships no types
    """Like the library's class, but keeps the messages that one poll leaves for the next."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Message]:
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        records: PartitionRecords = self._partition_records
        found = list(islice(records, max_records))
        self._update_position()
        if records.ended:
            self._partition_records = None
        return found
