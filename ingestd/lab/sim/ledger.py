"""What the simulator sent, value by value, for whoever compares it with what arrived.

Counts are kept in memory; the trades and ticks themselves go to temporary files as the payloads that were sent and
are parsed only when somebody asks, so that keeping the ledger costs the emission next to nothing.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import IO, NamedTuple

from ingestd.lab.sim.venues.base import Stream, Venue


class Doubt(NamedTuple):
    """A stretch of the trade log that may not have reached a client: its socket died with bytes still unsent."""

    first: int
    end: int
    streams: frozenset[str]


class Ledger:
    """Everything written to an open socket. `deduplicate`: the same trade may be published twice (recorded so)."""

    def __init__(self, venue: Venue, *, deduplicate: bool) -> None:
        self._venue = venue
        self._deduplicate = deduplicate
        self._trades = _Log()
        self._ticks = _Log()
        self._withheld = _Log()
        self._doubts: list[Doubt] = []
        self._doubts_counted = 0
        self._uncertain = 0
        self._seen: set[tuple[str, str]] = set()
        self.sent: Counter[str] = Counter()  # records by channel (order books and the rest: frames), over all sockets
        self.by_market: dict[str, Counter[str]] = {}
        self.distinct_trades = 0
        self.withheld_trades = 0
        self.malformed = 0
        self.last_trade_ids: dict[str, str] = {}
        self.symbol_of: dict[str, str] = {}  # market id → unified symbol

    @property
    def position(self) -> int:
        """How many frames the trade log holds."""
        return self._trades.count

    def record(self, stream: Stream, payload: bytes, copies: int, records: int = 1) -> None:
        """A frame of anything but trades was written to `copies` sockets."""
        self._count(stream, copies * records)
        if stream.channel == "ticks":
            self._ticks.append(stream, payload)

    def record_trades(
        self, stream: Stream, payload: bytes, copies: int, last_id: str, *, records: int, fresh: int
    ) -> None:
        """A frame of `records` trades was written to `copies` sockets; `fresh` of them for the first time."""
        self._count(stream, copies * records)
        if fresh:
            self.distinct_trades += fresh
            self.last_trade_ids[stream.market_id] = last_id
            self._trades.append(stream, payload)

    def withhold(self, stream: Stream, payload: bytes, records: int) -> None:
        """Trades happened and were sent to nobody: what a client may later find over REST."""
        self.withheld_trades += records
        self._withheld.append(stream, payload)

    def is_fresh(self, stream: Stream, trade_id: str) -> bool:
        """Whether this trade was not seen before; remembers it."""
        key = (stream.market_id, trade_id)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def doubt(self, first: int, end: int, streams: frozenset[str]) -> None:
        """What was logged at the positions from `first` to before `end`, on these streams, may be lost."""
        if first < end:
            self._doubts.append(Doubt(first, end, streams))

    def trade_lines(self, *, withheld: bool = False) -> Iterator[bytes]:
        """NDJSON of the distinct trades sent (or of those withheld), in the order of sending."""
        seen: set[tuple[str, str]] = set()
        for index, (market, stream, payload) in enumerate((self._withheld if withheld else self._trades).read()):
            for trade in self._venue.trades(payload):
                key = (trade.market_id, trade.trade_id)
                if self._deduplicate:
                    if key in seen:
                        continue
                    seen.add(key)
                line: dict[str, object] = {"symbol": self.symbol_of.get(market, market), **trade._asdict()}
                line |= {"time_ms": trade.time_us // 1000, "stream": stream}
                if not withheld and self._is_doubtful(index, stream):
                    line["uncertain"] = True
                yield json.dumps(line).encode() + b"\n"

    def tick_lines(self) -> Iterator[bytes]:
        """NDJSON of the ticks sent, once each however many sockets got them."""
        for market, stream, payload in self._ticks.read():
            for tick in self._venue.ticks(payload):
                time_ms = None if tick.time_us is None else tick.time_us // 1000
                line = {"symbol": self.symbol_of.get(market, market), **tick._asdict()}
                yield json.dumps({**line, "time_ms": time_ms, "stream": stream}).encode() + b"\n"

    def uncertain_trades(self) -> int:
        """How many distinct trades may not have arrived although they were written."""
        if self._doubts_counted != len(self._doubts):  # a doubt is about the past, so its count stays
            self._doubts_counted = len(self._doubts)
            lines = enumerate(self._trades.read())
            self._uncertain = sum(self._is_doubtful(index, stream) for index, (_, stream, _) in lines)
        return self._uncertain

    def close(self) -> None:
        """Remove the temporary files."""
        for log in (self._trades, self._ticks, self._withheld):
            log.close()

    def _count(self, stream: Stream, amount: int) -> None:
        self.sent[stream.channel] += amount
        market = self.by_market.get(stream.market_id)
        if market is None:
            market = self.by_market[stream.market_id] = Counter()
        market[stream.channel] += amount

    def _is_doubtful(self, index: int, stream: str) -> bool:
        return any(doubt.first <= index < doubt.end and stream in doubt.streams for doubt in self._doubts)


class _Log:
    """Frames in a temporary file: market, stream and payload with tabs between them, a line each."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.NamedTemporaryFile(prefix="ingestd-sim-")  # noqa: SIM115 - closed by `close`
        self.count = 0

    def append(self, stream: Stream, payload: bytes) -> None:
        self._file.write(b"%b\t%b\t%b\n" % (stream.market_id.encode(), stream.name.encode(), payload))
        self.count += 1

    def read(self) -> Iterator[tuple[str, str, str]]:
        """What was appended before this call."""
        self._file.flush()
        remaining = self.count
        with open(self._file.name, "rb") as lines:
            for line in lines:
                if remaining == 0:
                    return
                remaining -= 1
                market, stream, payload = line.decode().rstrip("\n").split("\t", 2)
                yield market, stream, payload

    def close(self) -> None:
        self._file.close()
