"""Records every value the simulator sent, for comparison with what arrived.

Counts are kept in memory; trades and ticks go to temporary files as sent and are parsed
only on request, so that the ledger hardly slows the emission.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import IO, NamedTuple

from ingestd.lab.sim.venues.base import SentTick, SentTrade, Stream, Venue


class Doubt(NamedTuple):
    """A range of the trade log that a client may not have received, because its socket died with unsent bytes."""

    first: int
    end: int
    streams: frozenset[str]


class Ledger:
    """Records everything written to open sockets. `deduplicate`: the capture may contain a trade twice."""

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
        self.sent: Counter[str] = Counter()  # records by channel (frames for order books and `other`), over all sockets
        self.by_market: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.distinct_trades = 0
        self.withheld_trades = 0
        self.last_trade_ids: dict[str, str] = {}
        self.symbol_of: dict[str, str] = {}  # market id → unified symbol

    @property
    def position(self) -> int:
        """The number of frames in the trade log."""
        return self._trades.count

    def record(self, stream: Stream, payload: bytes, copies: int) -> None:
        """Record a frame without trades that was written to `copies` sockets."""
        self._count(stream, copies)
        if stream.channel == "ticks":
            self._ticks.append(stream, payload)

    def record_trades(
        self, stream: Stream, payload: bytes, copies: int, last_id: str, *, records: int, fresh: int
    ) -> None:
        """Record a frame of `records` trades, `fresh` of them new, that was written to `copies` sockets."""
        self._count(stream, copies * records)
        if fresh:
            self.distinct_trades += fresh
            self.last_trade_ids[stream.market_id] = last_id
            self._trades.append(stream, payload)

    def withhold(self, stream: Stream, payload: bytes, records: int) -> None:
        """Record trades that were sent to nobody, which a client may later find over REST."""
        self.withheld_trades += records
        self._withheld.append(stream, payload)

    def is_fresh(self, stream: Stream, trade_id: str) -> bool:
        """Whether this trade is new; remembers it."""
        key = (stream.market_id, trade_id)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def doubt(self, first: int, end: int, streams: frozenset[str]) -> None:
        """Mark the log entries of these streams from `first` to before `end` as possibly lost."""
        if first < end:
            self._doubts.append(Doubt(first, end, streams))

    def trade_lines(self, *, withheld: bool = False) -> Iterator[bytes]:
        """NDJSON of the distinct trades sent (or withheld), in the order of sending."""
        seen: set[tuple[str, str]] = set()
        for index, (market, stream, payload) in enumerate((self._withheld if withheld else self._trades).read()):
            for trade in self._venue.trades(payload):
                key = (trade.market_id, trade.trade_id)
                if self._deduplicate:
                    if key in seen:
                        continue
                    seen.add(key)
                uncertain = {"uncertain": True} if not withheld and self._is_doubtful(index, stream) else {}
                yield self._line(market, stream, trade, trade.time_us // 1000, **uncertain)

    def tick_lines(self) -> Iterator[bytes]:
        """NDJSON of the ticks sent, each once regardless of the number of sockets."""
        for market, stream, payload in self._ticks.read():
            for tick in self._venue.ticks(payload):
                yield self._line(market, stream, tick, None if tick.time_us is None else tick.time_us // 1000)

    def uncertain_trades(self) -> int:
        """Count the distinct trades that were written but may not have arrived."""
        if self._doubts_counted != len(self._doubts):  # a doubt concerns the past, so its count does not change
            self._doubts_counted = len(self._doubts)
            lines = enumerate(self._trades.read())
            self._uncertain = sum(self._is_doubtful(index, stream) for index, (_, stream, _) in lines)
        return self._uncertain

    def close(self) -> None:
        for log in (self._trades, self._ticks, self._withheld):
            log.close()

    def _count(self, stream: Stream, amount: int) -> None:
        self.sent[stream.channel] += amount
        self.by_market[stream.market_id][stream.channel] += amount

    def _line(self, market: str, stream: str, sent: SentTrade | SentTick, time_ms: int | None, **more: object) -> bytes:
        names = {"symbol": self.symbol_of.get(market, market), **sent._asdict(), "time_ms": time_ms, "stream": stream}
        return json.dumps({**names, **more}).encode() + b"\n"

    def _is_doubtful(self, index: int, stream: str) -> bool:
        return any(doubt.first <= index < doubt.end and stream in doubt.streams for doubt in self._doubts)


class _Log:
    """Frames in a temporary file, one per line: market, stream and payload, separated by tabs."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.NamedTemporaryFile(prefix="ingestd-sim-")  # noqa: SIM115 - closed by `close`
        self.count = 0

    def append(self, stream: Stream, payload: bytes) -> None:
        self._file.write(b"%b\t%b\t%b\n" % (stream.market_id.encode(), stream.name.encode(), payload))
        self.count += 1

    def read(self) -> Iterator[tuple[str, str, str]]:
        """Yield the frames appended before this call."""
        self._file.flush()
        with open(self._file.name, "rb") as lines:
            for line in islice(lines, self.count):
                market, stream, payload = line.decode().rstrip("\n").split("\t", 2)
                yield market, stream, payload

    def close(self) -> None:
        self._file.close()
