"""Splits the records of a large batch, so that the client library never builds many headers in one call.

The library builds a tuple for each header of a record, two bytes of a batch are enough for one, and a record may claim
to be shorter than its headers. So the library gets at most `SEGMENT_BYTES` at once. A record that is longer gets
through alone if it is within the limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

SEGMENT_BYTES = 2**20
MOST_HEADERS = 100  # of one message
_LONGEST_VARINT = 10

Plain: TypeAlias = bytes | bytearray | memoryview
Segment: TypeAlias = tuple[memoryview, int]  # whole records, and their number


@dataclass(frozen=True, slots=True)
class LargeRecord:
    """A record that exceeds a limit. Its content is not read."""

    offset: int
    size: int
    error: str
    headers: tuple[()] = ()


def segments(plain: Plain, count: int, base_offset: int, largest_bytes: int) -> Iterator[Segment | LargeRecord]:
    """Split `count` records. Raises ValueError where their lengths do not fit the bytes, after the records before."""
    view, end = memoryview(plain), len(plain)
    start = at = first = number = 0  # the segment's first byte and record, and the current record
    stop = min(end, SEGMENT_BYTES)
    problem = ""
    for number in range(count):
        try:
            # Two bytes are the usual length; a function call would double the time of this loop.
            if (low := plain[at]) < 0x80:
                length, body = low, at + 1
            elif (high := plain[at + 1]) < 0x80:
                length, body = low & 0x7F | high << 7, at + 2
            else:
                length, body = _unsigned(plain, at)
        except (IndexError, ValueError):
            problem = "the length of a message is cut off"
            break
        after = body + (length >> 1)
        if length & 1 or after > end:
            problem = "a message has an impossible length"
            break
        if after > stop:
            if number > first:
                yield view[start:at], number - first
            start, first = at, number
            if after - at > SEGMENT_BYTES:
                yield _large(plain, body, after, base_offset, largest_bytes) or (view[at:after], 1)
                start, first = after, number + 1
            stop = min(end, start + SEGMENT_BYTES)
        at = after
    else:
        number = max(0, count)
    if number > first:
        yield view[start:at], number - first
    if problem or at != end:
        raise ValueError(problem or f"{end - at} bytes behind the last message")


def too_many_headers(count: int) -> str:
    """The error of a message with more than `MOST_HEADERS` headers."""
    return f"a message with {count} headers, more than {MOST_HEADERS}"


def too_many_bytes(size: int, largest_bytes: int) -> str:
    """The error of a message that exceeds the size limit."""
    return f"a message of {size} bytes, more than {largest_bytes}"


def _large(plain: Plain, body: int, after: int, base_offset: int, largest_bytes: int) -> LargeRecord | None:
    """The record in these bytes if it exceeds a limit, None if the library may read it."""
    if plain[body] & 0x80:  # the library's two readers differ in where such a byte ends
        raise ValueError("a message has unknown attributes")
    _, at = _varint(plain, body + 1)
    delta, at = _varint(plain, at)
    for _part in ("key", "value"):
        size, at = _varint(plain, at)
        if not -1 <= size <= after - at:
            raise ValueError(f"a message with a part of {size} bytes")
        at += max(0, size)
    headers, _ = _varint(plain, at)
    size = after - body
    if size > largest_bytes:
        return LargeRecord(base_offset + delta, size, too_many_bytes(size, largest_bytes))
    return LargeRecord(base_offset + delta, size, too_many_headers(headers)) if headers > MOST_HEADERS else None


def _varint(plain: Plain, at: int) -> tuple[int, int]:
    """A signed number, and the place behind it."""
    number, at = _unsigned(plain, at)
    return number >> 1 ^ -(number & 1), at


def _unsigned(plain: Plain, at: int) -> tuple[int, int]:
    number = 0
    for index, byte in enumerate(plain[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise ValueError("a number is cut off")
