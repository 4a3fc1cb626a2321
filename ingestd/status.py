"""What the parts tell each other of a feed: its state now, a venue's markets, and what an earlier process left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingestd.records import FeedGap, earliest_us


@dataclass(frozen=True, slots=True)
class MarketInfo:
    """One market of a venue, as the `symbols` table keeps it. Limits and precisions are decimal text.

    `type` is `spot`, `swap`, `future` or `option`. A precision is the step of a price or an amount (`0.01`);
    where a venue states significant digits instead, it is that number of digits.

    Of contracts: one is `contract_size` of the base currency where it is `linear`, of the quote currency where it is
    not (None: neither, or no contract). What quantities and open interests count is `base`, `quote` or `contracts`;
    None: not known.
    """

    exchange: str
    symbol: str
    market_id: str
    base: str
    quote: str
    type: str
    active: bool
    min_amount: str | None = None
    max_amount: str | None = None
    price_precision: str | None = None
    amount_precision: str | None = None
    linear: bool | None = None
    contract_size: str | None = None
    quantity_unit: str | None = None
    open_interest_unit: str | None = None


@dataclass(slots=True)
class StreamStatus:
    """One (channel, symbol) of a feed, as health and metrics show it."""

    channel: str
    symbol: str
    received: int = 0
    last_received_at: int | None = None  # microseconds since the epoch; None: nothing yet
    quarantined: str | None = None  # why the venue refuses it
    last_time: int | None = None  # the venue's time of what was received last
    followed_at: int | None = None  # since when it should deliver, also in an earlier process; None: not followed
    quiet_until: int | None = None  # until then, on our clock, the venue says that nothing followed on the last record

    @property
    def complete_until(self) -> int | None:
        """Where a gap that opens now begins: until then nothing is missing. None: nothing says since when it should."""
        until = self.followed_at
        if self.last_received_at is not None:
            time = self.last_received_at if self.last_time is None else self.last_time
            until = earliest_us(time, self.last_received_at)
        return until if self.quiet_until is None or until is None else max(until, self.quiet_until)

    def is_quiet_until(self, at: int) -> None:
        """It is proved that until then nothing followed on what was received last."""
        self.quiet_until = max(at, self.quiet_until or at)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier process left of a stream: `gap` is one that was still open, else it was complete until then.

    `cause` and `detail` are those of the gap that begins there. `followers`: how many feeds are to go on with it:
    the candles of one market may be followed in several timeframes, and a row of the ledger is of all of them.
    """

    complete_until: int
    cause: str
    detail: str | None = None
    gap: FeedGap | None = None
    followers: int = 1


@dataclass(slots=True)
class FeedStatus:
    """A feed at this moment. `problem` is None while all is well, else a sentence for people."""

    label: str
    connected: bool = False
    problem: str | None = None
    connects: int = 0
    disconnects: int = 0
    stale_reconnects: int = 0
    malformed_frames: int = 0  # of which nothing could be taken: not decodable, or of a kind that is not known
    error_frames: int = 0  # errors that the venue sent, whatever they were about
    waits_cut: int = 0  # the venue asked for a longer wait than an hour
    incomplete_records: int = 0  # updates that lack what the record needs (a ticker without bid and ask)
    unrequested_records: int = 0  # updates for symbols that were not asked for
    ids_not_consecutive: int = 0  # markets whose ids were to have no holes, and have
    markets_put_aside: int = 0  # of the venue's newest list: malformed, and named in the log
    market_lists_missing: int = 0  # that a symbol of the feed may be in, and that the venue does not give
    symbols_refused: int = 0  # beyond `max_symbols`
    book_resyncs: Counter[str] = field(default_factory=Counter)  # by reason: sequence, checksum, audit
    book_audits: Counter[str] = field(default_factory=Counter)  # by result: equal, differs, inconclusive
    trade_kinds: Counter[str] = field(default_factory=Counter)  # trades that the venue marks; `other`: as it never did
    silences: Counter[str] = field(default_factory=Counter)  # questions about silent streams, by what came of them
    streams: list[StreamStatus] = field(default_factory=list)
    wanted: Sequence[str] = ()  # names and globs of the configuration


@dataclass(slots=True)
class SinkStatus:
    """A sink at this moment. `problem` is None while all is well, else a sentence for people."""

    name: str
    up: bool = False
    problem: str | None = None
    attempts_failed: int = 0  # in a row
    stands_still: bool = False  # its server answers, and refuses the same records each time
