"""A Redis of a few lines: what the commands of the live sink mean, to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


def parsed(stream: bytes) -> Iterator[list[bytes]]:
    """The commands in a stream of RESP arrays; fails on anything else."""
    at = 0

    def line() -> bytes:
        nonlocal at
        end = stream.index(b"\r\n", at)
        text, at = stream[at:end], end + 2
        return text

    while at < len(stream):
        head = line()
        assert head[:1] == b"*", head
        parts = []
        for _ in range(int(head[1:])):
            size = line()
            assert size[:1] == b"$", size
            length = int(size[1:])
            parts.append(stream[at : at + length])
            assert stream[at + length : at + length + 2] == b"\r\n"
            at += length + 2
        yield parts


@dataclass
class RedisModel:
    """Keys with their times to live, and every message in order."""

    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    ttl: dict[str, int] = field(default_factory=dict)
    messages: list[tuple[str, str]] = field(default_factory=list)

    def carry_out(self, stream: bytes) -> int:
        """Every command of the stream; how many. A command the sink must not use fails."""
        count = 0
        for command in parsed(stream):
            name, key, *rest = [part.decode() for part in command]
            getattr(self, f"_{name.lower()}")(key, *rest)
            count += 1
        return count

    def _publish(self, channel: str, message: str) -> None:
        self.messages.append((channel, message))

    def _hset(self, key: str, *flat: str) -> None:
        assert len(flat) % 2 == 0
        assert flat
        self.hashes.setdefault(key, {}).update(zip(flat[::2], flat[1::2], strict=True))

    def _expire(self, key: str, seconds: str) -> None:
        assert key in self.hashes or key in self.lists
        assert int(seconds) > 0
        self.ttl[key] = int(seconds)

    def _lset(self, key: str, index: str, value: str) -> None:
        self.lists[key][int(index)] = value

    def _lpush(self, key: str, *values: str) -> None:
        self.lists[key] = [*reversed(values), *self.lists.get(key, [])]

    def _ltrim(self, key: str, start: str, end: str) -> None:
        assert start == "0"
        del self.lists[key][int(end) + 1 :]
