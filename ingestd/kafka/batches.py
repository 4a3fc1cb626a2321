"""Reads what a fetch brings of one partition within limits. What cannot be read is put aside and stops nothing else.

The client library unpacks a batch whole, and raises at each attempt to read a damaged one. The classes here replace
three of its own (see `kafka_consumer`) and give its readers of records, compiled or in Python, only batches that are
unpacked already. A batch beyond a limit, or one that cannot be read, becomes one `Unreadable` with its offsets.

The layout of a batch: https://kafka.apache.org/documentation/#messageformat. The message sets of before Kafka 0.11 are
read here without the library, whose compiled reader never ends at a negative length.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeAlias

import structlog
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import ConsumerRecord

from ingestd.kafka.codecs import NAMES, TooLarge, unpacked
from ingestd.kafka.messages import Message, Part, Unreadable
from ingestd.log_limit import LogLimit

log = structlog.get_logger()

LARGEST_BATCH_BYTES = 32 * 2**20  # unpacked; by default a broker takes 1 MiB packed, some 14 MiB of ours with zstd
LARGEST_MESSAGE_BYTES = 4 * 2**20
_POLL_BYTES = 4 * 2**20  # in one poll: books of 64 MiB took the event loop 17 s and the server longer than a call may
_TRIES = 3  # what may be the network's fault is fetched again before it is put aside
_HEADER = struct.Struct(">qiibIhiqqqhii")
_ATTRIBUTES_AT = 21
_LOG_OVERHEAD = 12  # offset and length, which are in front of a batch or message of any version
_MAGIC_AT = 16
_OLD_HEADERS = {0: struct.Struct(">qiIbb"), 1: struct.Struct(">qiIbbq")}
_CODEC_MASK, _BROKERS_TIME_MASK, _CONTROL_MASK = 0x07, 0x08, 0x20
_SMALLEST_RECORD_BYTES = 7
_LARGEST_OFFSET = 2**63 - 2
_LARGEST_LEAP = 100_000

_Slice: TypeAlias = memoryview


class Damaged(ValueError):
    """The bytes are not what was written. Fetched again, they may be right."""


@dataclass
class Bounds:
    """How much one consumer unpacks, of a batch, of a message and for one poll."""

    batch_bytes: int = LARGEST_BATCH_BYTES
    message_bytes: int = LARGEST_MESSAGE_BYTES
    left_bytes: int = _POLL_BYTES
    _tried: dict[Part, tuple[int, int]] = field(default_factory=dict)  # the offset that is damaged, how often it came
    _put_aside: int = 0
    _log_limit: LogLimit = field(default_factory=LogLimit)

    def begin_poll(self) -> None:
        """Allow the bytes of one more poll."""
        self.left_bytes = _POLL_BYTES

    def try_again(self, part: Part, offset: int) -> bool:
        """Whether what came damaged is worth another fetch."""
        at, times = self._tried.get(part, (offset, 0))
        times = times + 1 if at == offset else 1
        self._tried[part] = offset, times
        return times < _TRIES

    def tell(self, aside: Unreadable) -> None:
        """Log what is put aside."""
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


class FetchedBatches:
    """The bytes of one partition in a fetch response, batch by batch. Replaces the library's MemoryRecords."""

    def __init__(self, data: bytes | memoryview | None) -> None:
        self._data = memoryview(data or b"")
        self._at = 0

    def has_next(self) -> bool:
        """Whether any bytes are left to read."""
        return self._at < len(self._data)

    def size_in_bytes(self) -> int:
        """How many bytes there are in all, read or not."""
        return len(self._data)

    @property
    def rest(self) -> _Slice:
        """What has not been read."""
        return self._data[self._at :]

    def next_batch(self) -> _Slice | None:
        """The next batch; None at the end, or if the rest is cut off. Raises Damaged if not even the first is whole."""
        data = self.rest
        if len(data) > _MAGIC_AT:
            (length,) = struct.unpack_from(">i", data, 8)
            if _MAGIC_AT - _LOG_OVERHEAD < length <= len(data) - _LOG_OVERHEAD:
                self._at += _LOG_OVERHEAD + length
                return data[: _LOG_OVERHEAD + length]
        if self._at or not data:
            return None
        raise Damaged(f"{len(data)} bytes that are no whole batch")


class PartitionRecords:
    """The messages of a fetch, from `next_fetch_offset` on. Replaces the library's class of that name.

    A new iteration goes on where the last one stopped. It stops early at the poll's limit; `ended`: nothing is left.
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
        """The library's arguments. The consumer's Bounds come as `value_deserializer`, which the library hands on."""
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
            # Not `yield from`: that would close the batch when this generator is left in the middle.
            for message in self._open:
                self.next_fetch_offset = message.offset + 1
                yield message
                if self._bounds.left_bytes < 0:
                    return
            self._open = None

    def __next__(self) -> Message:
        return next(iter(self))

    def _next_batch(self) -> Iterator[Message]:
        data: _Slice | None = None
        try:
            data = self._batches.next_batch()
            if data is None:
                self.ended = True
                return
            batch = _Old(data) if data[_MAGIC_AT] < 2 else _Batch(data)
        except Damaged as error:
            # Stop if the bytes will be fetched again, or if no batch is whole: nothing shows where the next begins.
            again = self._bounds.try_again(self._part, self.next_fetch_offset)
            self.ended = again or data is None
            if not again:
                last = self._believable_end(self._batches.rest if data is None else data)
                yield self._aside(last, "unreadable", str(error))
            return
        if batch.last_offset < 0:
            yield self._aside(self.next_fetch_offset, "unreadable", f"{batch.codec} with impossible offsets")
        elif batch.last_offset < self.next_fetch_offset or batch.is_control:
            self.next_fetch_offset = max(self.next_fetch_offset, batch.last_offset + 1)
        else:
            yield from self._read(batch)

    def _believable_end(self, data: _Slice) -> int:
        """The last offset of damaged bytes: what their header says, unless that is far from what was asked for."""
        base, last = _offsets(data)
        return last if base <= self.next_fetch_offset + _LARGEST_LEAP else self.next_fetch_offset

    def _read(self, batch: _Batch | _Old) -> Iterator[Message]:
        topic, partition = self._part
        largest = self._bounds.message_bytes
        expected = self.next_fetch_offset
        aside = None
        try:
            size = self._opened(batch)
            may_be_large = size > largest
            # A batch that is more than the poll may have is given over several, and charged as its messages are.
            by_message = size > self._bounds.left_bytes
            if not by_message:
                self._bounds.left_bytes -= size
            for record in batch:
                offset = record.offset
                if offset < expected:  # fetched from the middle of a batch
                    if offset < batch.base_offset:
                        raise ValueError(f"a message says that its offset is {offset}")
                    continue
                if offset > batch.last_offset:
                    raise ValueError(f"a message says that its offset is {offset}")
                expected = offset + 1
                key, value = record.key, record.value
                if by_message:
                    self._bounds.left_bytes -= _bytes_of(record)
                if may_be_large and (size := len(key or b"") + len(value or b"")) > largest:
                    yield self._aside(offset, "too_large", f"a message of {size} bytes, more than {largest}", offset)
                    continue
                yield ConsumerRecord(
                    topic,
                    partition,
                    offset,
                    record.timestamp,
                    record.timestamp_type,
                    key,
                    value,
                    record.checksum,
                    -1 if key is None else len(key),
                    -1 if value is None else len(value),
                    tuple(record.headers),
                )
        except TooLarge as error:
            aside = "too_large", f"{batch.codec} of {batch.packed_bytes} bytes: {error}"
        except Exception as error:  # noqa: BLE001 # whatever is in it, it costs only this batch
            aside = "unreadable", f"{batch.codec} of {batch.packed_bytes} bytes: {str(error) or type(error).__name__}"
        if aside is not None and expected <= batch.last_offset:
            yield self._aside(batch.last_offset, *aside, expected)
        self.next_fetch_offset = max(self.next_fetch_offset, batch.last_offset + 1)

    def _opened(self, batch: _Batch | _Old) -> int:
        """Unpack it; its size then. For one that is too large the poll is charged the work of the bound."""
        try:
            return batch.unpack(self._bounds.batch_bytes)
        except TooLarge:
            self._bounds.left_bytes -= self._bounds.batch_bytes
            raise

    def _aside(self, last: int, reason: str, error: str, first: int | None = None) -> Unreadable:
        first = self.next_fetch_offset if first is None else first
        aside = Unreadable(*self._part, first, max(first, last), reason, error)
        self._bounds.tell(aside)
        return aside


class FetchResult(fetcher.FetchResult):  # type: ignore[misc] # the library ships no types
    """As the library's, but what a poll leaves is kept for the next one."""

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


class _Batch:
    """A batch of Kafka 0.11 and later."""

    def __init__(self, data: _Slice) -> None:
        if len(data) < _HEADER.size:
            raise Damaged(f"a batch of {len(data)} bytes")
        header = _HEADER.unpack_from(data)
        self._attributes: int = header[5]
        self.packed_bytes = len(data)
        self.codec = NAMES.get(self._attributes & _CODEC_MASK, "a batch")
        self.base_offset, self.last_offset = _offsets(data)
        self.is_control = bool(self._attributes & _CONTROL_MASK)
        self._data = data
        self._batch = DefaultRecordBatch(data)
        if not self._batch.validate_crc():
            raise Damaged("its checksum is wrong")

    def unpack(self, limit_bytes: int) -> int:
        """Unpack it; its size then, in bytes. Raises TooLarge, or another ValueError."""
        if codec := self._attributes & _CODEC_MASK:
            plain = unpacked(codec, self._data[_HEADER.size :], limit_bytes)
            attributes = struct.pack(">h", self._attributes & ~_CODEC_MASK)
            before, after = self._data[:_ATTRIBUTES_AT], self._data[_ATTRIBUTES_AT + 2 : _HEADER.size]
            self._batch = DefaultRecordBatch(b"".join((before, attributes, after, plain)))
            return len(plain)
        return len(self._data)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batch)


@dataclass(frozen=True, slots=True)
class _OldMessage:
    offset: int
    timestamp: int | None
    timestamp_type: int | None
    key: bytes | None
    value: bytes | None
    checksum: int
    headers: tuple[()] = ()


class _Old:
    """A message of before Kafka 0.11, or several packed in one. Their offsets count back from the last one's."""

    is_control = False
    base_offset = 0

    def __init__(self, data: _Slice) -> None:
        self._outer, self._attributes = _old_message(data)
        self._data = data
        if zlib.crc32(data[_MAGIC_AT:]) != self._outer.checksum:
            raise Damaged("its checksum is wrong")
        self.packed_bytes = len(data)
        self.codec = NAMES.get(self._attributes & _CODEC_MASK, "a message")
        self.last_offset = self._outer.offset if self._outer.offset <= _LARGEST_OFFSET else -1
        self._plain: _Slice | None = None
        self._shift = 0

    def unpack(self, limit_bytes: int) -> int:
        """Unpack it; its size then, in bytes. Raises TooLarge, or another ValueError."""
        if not (codec := self._attributes & _CODEC_MASK):
            return len(self._data)
        self._plain = memoryview(unpacked(codec, memoryview(self._outer.value or b""), limit_bytes))
        last = 0
        for inner in _messages(self._plain):
            (last,) = struct.unpack_from(">q", inner)
        if self._data[_MAGIC_AT]:
            self._shift = self._outer.offset - last
        return len(self._plain)

    def __iter__(self) -> Iterator[_OldMessage]:
        if self._plain is None:
            yield self._outer
            return
        for data in _messages(self._plain):
            message, attributes = _old_message(data)
            if attributes & _CODEC_MASK:
                raise ValueError("a packed message in a packed message")
            timestamp = self._outer.timestamp if self._outer.timestamp_type else message.timestamp
            offset, kind = message.offset + self._shift, self._outer.timestamp_type
            yield replace(message, offset=offset, timestamp=timestamp, timestamp_type=kind)


def _bytes_of(record: Any) -> int:
    """Of a message; what its headers are named is left out."""
    parts = record.key, record.value, *(value for _, value in record.headers)
    return _SMALLEST_RECORD_BYTES + sum(len(part or b"") for part in parts)


def _messages(data: _Slice) -> Iterator[_Slice]:
    batches = FetchedBatches(data)
    while (message := batches.next_batch()) is not None:
        yield message


def _old_message(data: _Slice) -> tuple[_OldMessage, int]:
    """The message, and its attributes. Raises Damaged where its lengths are not those of the bytes there are."""
    magic = data[_MAGIC_AT]
    if magic not in _OLD_HEADERS or len(data) < (header := _OLD_HEADERS[magic]).size + 8:
        raise Damaged(f"a message of {len(data)} bytes and version {magic}")
    offset, _, checksum, _, attributes, *timestamp = header.unpack_from(data)
    parts: list[bytes | None] = []
    at = header.size
    for _part in ("key", "value"):
        if len(data) - at < 4:
            raise Damaged("a message is cut off")
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if not -1 <= size <= len(data) - at:
            raise Damaged(f"a message with a part of {size} bytes")
        parts.append(None if size == -1 else bytes(data[at : at + size]))
        at += max(0, size)
    made, by_broker = (timestamp[0], int(bool(attributes & _BROKERS_TIME_MASK))) if timestamp else (None, None)
    return _OldMessage(offset, made, by_broker, parts[0], parts[1], checksum), attributes


def _offsets(data: _Slice) -> tuple[int, int]:
    """The first and the last offset that the header says, or -1 where it says none that can be."""
    if len(data) < _HEADER.size or data[_MAGIC_AT] < 2:
        return -1, -1
    header = _HEADER.unpack_from(data)
    base, delta = int(header[0]), int(header[6])
    if base < 0 or not 0 <= delta <= LARGEST_BATCH_BYTES // _SMALLEST_RECORD_BYTES or base + delta > _LARGEST_OFFSET:
        return -1, -1
    return base, base + delta
