"""Compressed frames, unpacked no further than a limit: a few kilobytes can stand for gigabytes."""

from __future__ import annotations

import zlib

_GZIP_BITS = zlib.MAX_WBITS | 16


class FrameTooLarge(ValueError):
    """What a frame holds is larger than any message a venue has reason to send."""


def unpacked(data: bytes, *, gzip: bool, limit_bytes: int) -> bytes:
    """A gzip frame (of one or more members) or a raw deflate one. Raises FrameTooLarge, or zlib.error when damaged."""
    parts: list[bytes] = []
    room = limit_bytes
    while data:
        unpacker = zlib.decompressobj(_GZIP_BITS if gzip else -zlib.MAX_WBITS)
        part = unpacker.decompress(data, room + 1)
        room -= len(part)
        if room < 0:
            raise FrameTooLarge(f"a compressed frame holds more than {limit_bytes} bytes")
        if not unpacker.eof:
            raise zlib.error("the compressed frame ends too early")
        parts.append(part)
        data = unpacker.unused_data if gzip else b""
    return b"".join(parts)
