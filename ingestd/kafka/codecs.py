"""Unpacks a Kafka batch into a buffer of limited size, whatever the sizes in its headers say.

The client library unpacks a batch whole, and 21 KB of zstd can hold 700 MB. Here no codec can write more than the
limit, even if the batch consists of several compressed frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import cramjam

_SNAPPY = 2
_INTO: dict[int, Callable[[memoryview, bytearray], int]] = {
    1: cramjam.gzip.decompress_into,
    3: cramjam.lz4.decompress_into,
    4: cramjam.zstd.decompress_into,
}
NAMES = {1: "gzip", _SNAPPY: "snappy", 3: "lz4", 4: "zstd"}
_NO_ROOM = "failed to write whole buffer"  # in cramjam's error if the buffer is too small
_FIRST_ROOM_BYTES = 64 * 2**10
_USUAL_RATIO = 16
# Java's library frames snappy: this text, two version numbers, then blocks, each preceded by its packed length.
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class TooLarge(ValueError):
    """The batch unpacks to more than the limit."""


def unpacked(codec: int, packed: memoryview, limit_bytes: int) -> bytes | bytearray:
    """Unpack the records of a batch. `codec` is the number in the batch's attributes.

    Raises TooLarge if they exceed `limit_bytes`, another ValueError if they cannot be unpacked.
    """
    try:
        if codec == _SNAPPY:
            return _snappy(packed, limit_bytes)
        return _into(_INTO[codec], packed, limit_bytes)
    except KeyError as error:
        raise ValueError(f"no codec has the number {codec}") from error
    except cramjam.DecompressionError as error:
        raise ValueError(f"{NAMES[codec]}: {error}") from error


def _into(decompress_into: Callable[[memoryview, bytearray], int], packed: memoryview, limit_bytes: int) -> bytearray:
    """Unpack into a buffer that is small at first, because few batches are near the limit, and grows up to it."""
    size = max(_FIRST_ROOM_BYTES, _USUAL_RATIO * len(packed))
    while True:
        size = min(size, limit_bytes)
        room = bytearray(size)
        try:
            count = decompress_into(packed, room)
        except cramjam.DecompressionError as error:
            if _NO_ROOM not in str(error):
                raise
            if size == limit_bytes:
                raise TooLarge(f"it unpacks to more than {limit_bytes} bytes") from error
            size *= 8
        else:
            del room[count:]
            return room


def _snappy(packed: memoryview, limit_bytes: int) -> bytes:
    if packed[: len(_XERIAL)] != _XERIAL or len(packed) <= _XERIAL_HEADER_BYTES:
        return _snappy_block(packed, limit_bytes)
    blocks: list[bytes] = []
    at, left = _XERIAL_HEADER_BYTES, limit_bytes
    while at < len(packed):
        if len(packed) - at < 4:
            raise ValueError("snappy: a block is cut off")
        (size,) = struct.unpack_from(">i", packed, at)
        at += 4
        if not 0 < size <= len(packed) - at:
            raise ValueError(f"snappy: a block of {size} bytes")
        blocks.append(_snappy_block(packed[at : at + size], left))
        left -= len(blocks[-1])
        at += size
    return b"".join(blocks)


def _snappy_block(packed: memoryview, limit_bytes: int) -> bytes:
    # The codec allocates the size that the block states, and raises unless the block unpacks to exactly that size.
    if cramjam.snappy.decompress_raw_len(packed) > limit_bytes:
        raise TooLarge(f"it states a size of more than {limit_bytes} bytes")
    return bytes(cramjam.snappy.decompress_raw(packed))
