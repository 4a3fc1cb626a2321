"""Decompresses frames and replies up to a size limit: a few kilobytes may decompress to gigabytes."""

from __future__ import annotations

import zlib

_GZIP_BITS = zlib.MAX_WBITS | 16
_DEFLATE_METHOD = 8  # in the first byte of zlib's header: https://www.rfc-editor.org/rfc/rfc1950#section-2.2
MAX_MEMBERS = 64  # per gzip stream: each member copies the remaining data, and an empty one takes only 20 bytes
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})  # the encodings that we accept, not combined
_OTHERWISE_PACKED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
# Any other value does not mean compression: some servers put the character set there, such as `utf-8`.


class FrameTooLarge(ValueError):
    """A frame or a reply is larger than any exchange has reason to send."""


class Unpacker:
    """Decompresses gzip data (of one or more members) or deflate data as it arrives."""

    def __init__(self, wbits: int, limit_bytes: int) -> None:
        self._wbits = wbits
        self._room = self._limit_bytes = limit_bytes
        self._member = zlib.decompressobj(wbits)
        self._members = 1
        self._begun = False

    @property
    def is_whole(self) -> bool:
        """Whether the data received so far is complete."""
        return self._member.eof or not self._begun

    def feed(self, data: bytes) -> bytes:
        """Decompress the next bytes. Raises FrameTooLarge, or zlib.error if they are damaged."""
        parts: list[bytes] = []
        while data:
            if self._member.eof:
                if self._wbits != _GZIP_BITS:
                    break  # ignore data after the end of a deflate stream
                self._members += 1
                if self._members > MAX_MEMBERS:
                    raise FrameTooLarge(f"it has more than {MAX_MEMBERS} gzip members")
                self._member = zlib.decompressobj(self._wbits)
            self._begun = True
            part = self._member.decompress(data, self._room + 1)
            self._room -= len(part)
            if self._room < 0:
                raise FrameTooLarge(f"it unpacks to more than {self._limit_bytes} bytes")
            parts.append(part)
            data = self._member.unused_data
        return parts[0] if len(parts) == 1 else b"".join(parts)


def unpacked(data: bytes, *, gzip: bool, limit_bytes: int) -> bytes:
    """Decompress a gzip frame (of one or more members) or a raw deflate frame. Raises FrameTooLarge, or zlib.error for
    damaged data."""
    unpacker = Unpacker(_GZIP_BITS if gzip else -zlib.MAX_WBITS, limit_bytes)
    whole = unpacker.feed(data)
    if not unpacker.is_whole:
        raise zlib.error("the compressed frame ends too early")
    return whole


class Reply:
    """Assembles the body of a reply while it is read. `encoding` is its `Content-Encoding`."""

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        """Raises ValueError for an encoding that we do not accept."""
        self._encoding = encoding.strip().lower()
        if self._encoding in _OTHERWISE_PACKED or "," in self._encoding:
            raise ValueError(f"it is encoded as {encoding[:40]!r}, which is not accepted")
        self._limit_bytes = limit_bytes
        self._wire_bytes = 0
        self._parts: list[bytes] = []
        self._unpacker: Unpacker | None = None

    def feed(self, data: bytes) -> None:
        """Add the next bytes as received. Raises FrameTooLarge, or zlib.error if they are damaged."""
        self._wire_bytes += len(data)
        if self._wire_bytes > self._limit_bytes:
            raise FrameTooLarge(f"it is longer than {self._limit_bytes} bytes")
        if self._encoding not in _PACKED:
            self._parts.append(data)
        elif data:
            if self._unpacker is None:
                self._unpacker = Unpacker(self._wbits(data), self._limit_bytes)
            self._parts.append(self._unpacker.feed(data))

    def whole(self) -> bytes:
        """The whole decompressed body. Raises zlib.error if it ends too early."""
        if self._unpacker is not None and not self._unpacker.is_whole:
            raise zlib.error("the compressed reply ends too early")
        return b"".join(self._parts)

    def _wbits(self, data: bytes) -> int:
        if self._encoding != "deflate":
            return _GZIP_BITS
        return zlib.MAX_WBITS if data[0] & 0x0F == _DEFLATE_METHOD else -zlib.MAX_WBITS  # some omit its header
