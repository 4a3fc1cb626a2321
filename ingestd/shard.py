"""Which part of the (exchange, symbol) set is this process's: `--shard 1/4` is the second of four."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from ingestd.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Shard:
    """`index` counts from 0. Every symbol belongs to exactly one of the `count` shards, for ever the same."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`i/n` with 0 ≤ i < n. Raises ConfigError."""
        first, slash, second = text.partition("/")
        if slash and first.isdecimal() and second.isdecimal() and int(first) < int(second):
            return cls(int(first), int(second))
        raise ConfigError([Problem("--shard", "write i/n with i counting from 0, such as 0/3", text)])

    def holds(self, exchange: str, symbol: str) -> bool:
        """CRC-32 of `exchange:symbol`, modulo: the same in every process and version."""
        return zlib.crc32(f"{exchange}:{symbol}".encode()) % self.count == self.index

    @property
    def suffix(self) -> str:
        """What tells this shard's positions in the database from its siblings'; nothing for the only one."""
        return f"-{self.index}-of-{self.count}" if self.count > 1 else ""
