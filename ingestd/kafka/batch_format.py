"""The layouts of Kafka's batches: their bytes, offsets and messages.

https://kafka.apache.org/documentation/#messageformat. Message sets of Kafka before 0.11 are read without the client
library, whose compiled reader loops for ever at a negative length.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch

from ingestd.kafka.codecs import NAMES, unpacked
from ingestd.kafka.segments import SEGMENT_BYTES, LargeRecord, Plain, segments

LARGEST_BATCH_BYTES = 32 * 2**20  # unpacked; by default a broker takes 1 MiB packed, some 14 MiB of ours with zstd
_HEADER = struct.Struct(">qiibIhiqqqhii")
_ATTRIBUTES_AT, _COUNT_AT = 21, 57
_LOG_OVERHEAD = 12  # offset and length, which precede a batch or message of any version
_MAGIC_AT = 16
_OLD_HEADERS = {0: struct.Struct(">qiIbb"), 1: struct.Struct(">qiIbbq")}
_CODEC_MASK, _CONTROL_MASK = 0x07, 0x20
_SMALLEST_RECORD_BYTES = 7
_LARGEST_OFFSET = 2**63 - 2


class Damaged(ValueError):
    """The bytes differ from what was written. Fetching them again may help."""


class FetchedBatches:
    """The bytes of one partition in a fetch response, batch by batch. Replaces the library's MemoryRecords."""

    def __init__(self, data: bytes | memoryview | None) -> None:
        self._data = memoryview(data or b"")
        self._at = 0

    def has_next(self) -> bool:
        """Whether there are unread bytes."""
        return self._at < len(self._data)

    def size_in_bytes(self) -> int:
        """The total number of bytes, read or not."""
        return len(self._data)

    @property
    def unread(self) -> memoryview:
        """The unread bytes."""
        return self._data[self._at :]

    def next_batch(self) -> memoryview | None:
        """The next batch; None at the end, or if it is cut off. Raises Damaged if even the first is cut off."""
        data = self.unread
        if len(data) > _MAGIC_AT:
            (length,) = struct.unpack_from(">i", data, 8)
            if _MAGIC_AT - _LOG_OVERHEAD < length <= len(data) - _LOG_OVERHEAD:
                self._at += _LOG_OVERHEAD + length
                return data[: _LOG_OVERHEAD + length]
        if self._at or not data:
            return None
        raise Damaged(f"{len(data)} bytes that are no whole batch")


def read_batch(data: memoryview) -> Batch | OldBatch:
    """Parse the batch in these bytes. Raises Damaged."""
    return OldBatch(data) if data[_MAGIC_AT] < 2 else Batch(data)


class Batch:
    """A batch of Kafka 0.11 and later."""

    def __init__(self, data: memoryview) -> None:
        if len(data) < _HEADER.size:
            raise Damaged(f"a batch of {len(data)} bytes")
        header = _HEADER.unpack_from(data)
        self._attributes: int = header[5]
        self.packed_bytes = len(data)
        self.codec = NAMES.get(self._attributes & _CODEC_MASK, "a batch")
        self.base_offset, self.last_offset = offsets_of(data)
        self.is_control = bool(self._attributes & _CONTROL_MASK)
        self._data = data
        self._count: int = header[12]
        self._plain: Plain = data[_HEADER.size :]
        self._batch = DefaultRecordBatch(data)
        if not self._batch.validate_crc():
            raise Damaged("its checksum is wrong")

    def unpack(self, limit_bytes: int) -> int:
        """Unpack the batch, and return its size in bytes. Raises TooLarge, or another ValueError."""
        if codec := self._attributes & _CODEC_MASK:
            self._plain = unpacked(codec, self._data[_HEADER.size :], limit_bytes)
            return len(self._plain)
        return len(self._data)

    def records(self, largest_bytes: int) -> Iterator[Any]:
        """The library's records of the unpacked batch. A large batch is read in segments, and a record in it that
        exceeds a limit is a LargeRecord."""
        if len(self._plain) > SEGMENT_BYTES:
            return self._by_segment(largest_bytes)
        if self._attributes & _CODEC_MASK:
            return iter(self._library_batch(self._plain, self._count))
        return iter(self._batch)

    def _by_segment(self, largest_bytes: int) -> Iterator[Any]:
        for segment in segments(self._plain, self._count, self.base_offset, largest_bytes):
            if isinstance(segment, LargeRecord):
                yield segment
            else:
                yield from self._library_batch(*segment)

    def _library_batch(self, plain: Plain, count: int) -> Any:
        """These records with this batch's header."""
        attributes = struct.pack(">h", self._attributes & ~_CODEC_MASK)
        before, after = self._data[:_ATTRIBUTES_AT], self._data[_ATTRIBUTES_AT + 2 : _COUNT_AT]
        return DefaultRecordBatch(b"".join((before, attributes, after, struct.pack(">i", count), plain)))


@dataclass(frozen=True, slots=True)
class _OldMessage:
    offset: int
    key: bytes | None
    value: bytes | None
    checksum: int
    headers: tuple[()] = ()


class OldBatch:
    """A message from before Kafka 0.11, or several packed in one, whose offset is that of the last."""

    is_control = False
    base_offset = 0

    def __init__(self, data: memoryview) -> None:
        self._outer, self._attributes = _old_message(data)
        self._data = data
        if zlib.crc32(data[_MAGIC_AT:]) != self._outer.checksum:
            raise Damaged("its checksum is wrong")
        self.packed_bytes = len(data)
        self.codec = NAMES.get(self._attributes & _CODEC_MASK, "a message")
        self.last_offset = self._outer.offset if self._outer.offset <= _LARGEST_OFFSET else -1
        self._plain: memoryview | None = None
        self._shift = 0

    def unpack(self, limit_bytes: int) -> int:
        """Unpack the messages, and return their size in bytes. Raises TooLarge, or another ValueError."""
        if not (codec := self._attributes & _CODEC_MASK):
            return len(self._data)
        self._plain = memoryview(unpacked(codec, memoryview(self._outer.value or b""), limit_bytes))
        last = 0
        for inner in _messages(self._plain):
            (last,) = struct.unpack_from(">q", inner)
        if self._data[_MAGIC_AT]:
            self._shift = self._outer.offset - last
        return len(self._plain)

    def records(self, _largest_bytes: int) -> Iterator[_OldMessage]:
        """The messages, which have no headers."""
        if self._plain is None:
            yield self._outer
            return
        for data in _messages(self._plain):
            message, attributes = _old_message(data)
            if attributes & _CODEC_MASK:
                raise ValueError("a packed message in a packed message")
            yield replace(message, offset=message.offset + self._shift)


def size_of(record: Any) -> int:
    """The size of a message in bytes, with its headers."""
    if isinstance(record, LargeRecord):
        return record.size
    parts = record.key, record.value, *(part for header in record.headers for part in header)
    return _SMALLEST_RECORD_BYTES + sum(len(part or b"") for part in parts)


def _messages(data: memoryview) -> Iterator[memoryview]:
    batches = FetchedBatches(data)
    while (message := batches.next_batch()) is not None:
        yield message


def _old_message(data: memoryview) -> tuple[_OldMessage, int]:
    """Parse a message and its attributes. Raises Damaged if its lengths do not fit the bytes."""
    magic = data[_MAGIC_AT]
    if magic not in _OLD_HEADERS or len(data) < (header := _OLD_HEADERS[magic]).size + 8:
        raise Damaged(f"a message of {len(data)} bytes and version {magic}")
    offset, _, checksum, _, attributes, *_ = header.unpack_from(data)
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
    return _OldMessage(offset, parts[0], parts[1], checksum), attributes


def offsets_of(data: memoryview) -> tuple[int, int]:
    """The first and the last offset in the header, or -1 for both if they are impossible."""
    if len(data) < _HEADER.size or data[_MAGIC_AT] < 2:
        return -1, -1
    header = _HEADER.unpack_from(data)
    base, delta = int(header[0]), int(header[6])
    if base < 0 or not 0 <= delta <= LARGEST_BATCH_BYTES // _SMALLEST_RECORD_BYTES or base + delta > _LARGEST_OFFSET:
        return -1, -1
    return base, base + delta
