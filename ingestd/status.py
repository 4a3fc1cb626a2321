"""The state of feeds and sinks as rooms exchange it, a venue's markets, and what an earlier process left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingestd.records import FeedGap, earliest_us


@dataclass(frozen=True, slots=True)
class MarketInfo:
    """One market of a venue, as stored in the table `symbols`. Limits and precisions are decimal text.

    `type` is `spot`, `swap`, `future` or `option`. A precision is the step of a price or an amount (`0.01`);
    if a venue states significant digits instead, it is the number of digits.

    One contract is `contract_size` of the base currency if `linear` is true, of the quote currency if it is false
    (None: neither, or no contract). Quantities and open interest count `base`, `quote` or `contracts`; None: not known.
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
    quarantined: str | None = None  # why the venue refuses the stream
    last_time: int | None = None  # the venue's time of the last record
    followed_at: int | None = None  # when it was first followed, also by an earlier process; None: not followed
    quiet_until: int | None = None  # our time up to which the venue says there is no newer record

    @property
    def key(self) -> tuple[str, str]:
        return self.channel, self.symbol

    @property
    def complete_until(self) -> int | None:
        """The time up to which nothing is missing, where a new gap would begin. None: unknown."""
        until = self.followed_at
        if self.last_received_at is not None:
            time = self.last_received_at if self.last_time is None else self.last_time
            until = earliest_us(time, self.last_received_at)
        return until if self.quiet_until is None or until is None else max(until, self.quiet_until)

    def is_quiet_until(self, at: int) -> None:
        """Note the proof that no record followed the last one before `at`."""
        self.quiet_until = max(at, self.quiet_until or at)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The state of a stream that an earlier process left: complete up to `complete_until`, unless `gap` was still open.

    `cause` and `detail` describe the gap that begins there. `followers` counts the feeds that will continue the stream:
    feeds may follow one market's candles in several timeframes, which share one row of the gap ledger.
    """

    complete_until: int
    cause: str
    detail: str | None = None
    gap: FeedGap | None = None
    followers: int = 1


@dataclass(slots=True)
class FeedStatus:
    """A feed's current state. `problem` is None while the feed works, else a sentence for people.

    It has more than 15 attributes because it has one for each metric of a feed.
    """

    label: str
    connected: bool = False
    problem: str | None = None
    connects: int = 0
    disconnects: int = 0
    stale_reconnects: int = 0
    malformed_frames: int = 0  # not decodable, or of an unknown kind
    error_frames: int = 0  # errors that the venue sent, of any kind
    waits_cut: int = 0  # waits of more than an hour that the venue asked for
    incomplete_records: int = 0  # updates without required fields (a ticker without bid and ask)
    unrequested_records: int = 0  # updates for symbols without a subscription
    ids_not_consecutive: int = 0  # markets whose trade ids should be consecutive but are not
    markets_put_aside: int = 0  # malformed entries of the venue's newest list, named in the log
    market_lists_missing: int = 0  # lists the venue does not serve although they may hold a symbol of the feed
    symbols_refused: int = 0  # beyond `max_symbols`
    book_resyncs: Counter[str] = field(default_factory=Counter)  # by reason: sequence, checksum, audit
    book_audits: Counter[str] = field(default_factory=Counter)  # by result: equal, differs, inconclusive
    trade_kinds: Counter[str] = field(default_factory=Counter)  # trades with a venue's mark; `other`: a mark not known
    silences: Counter[str] = field(default_factory=Counter)  # checks of silent streams, by result
    streams: list[StreamStatus] = field(default_factory=list)
    wanted: Sequence[str] = ()  # names and patterns of the configuration


@dataclass(slots=True)
class SinkStatus:
    """A sink's current state. `problem` is None while the sink works, else a sentence for people."""

    name: str
    up: bool = False
    problem: str | None = None
    attempts_failed: int = 0  # in a row
    is_stuck: bool = False  # its server answers but refuses the same records each time
