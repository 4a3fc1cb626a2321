"""The facts about an exchange, as values. The defaults fit most exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ingestd.records import Channel
from ingestd.venues.book_frames import BookOfFrame, NumberedFrames
from ingestd.venues.checksums import Book
from ingestd.venues.counting import Counting, Quantities
from ingestd.venues.families import Family
from ingestd.venues.names import VenueNames
from ingestd.venues.newest import Bulk, BulkChoice
from ingestd.venues.numbering import Numbering
from ingestd.venues.past import ANY_SERIES, Series, SeriesChoice
from ingestd.venues.trade_kinds import Marks
from ingestd.venues.venue import Markets, Venue

Trade = Mapping[str, Any]
Changes = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades:
    """Facts about an exchange's trades.

    `consecutive_ids`: the markets in which each id is the one before plus one, so that a missing trade shows.
    `aggregates`: spot, and contracts if the stream is `aggTrade`. `past`: how to request past trades under the stream's
    ids. `newest`: the bulk request for the newest trades of all markets. `stream_option`: if the feed's options choose
    the stream: ccxt's method, its option and the default. `two_times`: REST and the socket give a trade different
    times, up to a second apart.
    """

    consecutive_ids: Literal["all", "aggregates"] | None = None
    past: Series | SeriesChoice = ANY_SERIES
    marks: Marks = field(default_factory=Marks)
    newest: Bulk | BulkChoice | None = None
    stream_option: tuple[str, str, str] | None = None
    two_times: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ccxt:
    """How ccxt's code for this exchange differs from the exchange's documents, or from ccxt's code for others. A table,
    so it has an attribute for each difference.

    `bids_asks_in_tickers`: ccxt writes the stream of best prices to `tickers`, not to `bidsasks`.
    `ticks_from_books`: the ticker stream has no best bid and ask, so ticks are the top of the order book.
    `ticks_from_books_of`: the same, for these market types only.
    `unserved`: channels that ccxt or the exchange refuses for some market types, by market type.
    `misread`: channels whose data ccxt misinterprets.
    `with_key_only`: public channels for which ccxt demands credentials.
    `timeframes_not_streamed`: candles available over REST only (ccxt's list of timeframes is that of REST).
    `tickers_one_by_one`: a call for several tickers returns no bid and ask.
    `options`: ccxt's options, unless the feed's own override them.
    `same_message`: message types without a handler in ccxt, and the type whose handler can read them.
    `needs_no_key`: endpoints (interface, path) for which ccxt demands a key, though none is needed.
    `costs`: the weights of endpoints by the exchange's documents, in ccxt's units, where ccxt's are too low.
    `servers`: servers that ccxt has in its code but not in its `urls`.
    `needs_currencies`: market names depend on the currencies, so load these first.
    `ids_by_place`: ccxt derives market ids from places in the list, so no entry of the list may be left out.
    `open_interest_in_ticker`: whether ccxt requests the wrong ticker for a market's open interest. Its
    `fetch_ticker` requests the right one.
    """

    symbols_per_call: int = 50
    bids_asks_in_tickers: bool = False
    ticks_from_books: bool = False
    ticks_from_books_of: frozenset[str] = frozenset()
    unserved: Mapping[str, frozenset[Channel]] = field(default_factory=dict)
    misread: frozenset[Channel] = frozenset()
    with_key_only: frozenset[Channel] = frozenset()
    timeframes_not_streamed: frozenset[str] = frozenset()
    tickers_one_by_one: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    same_message: Mapping[str, str] = field(default_factory=dict)
    needs_no_key: frozenset[tuple[str, str]] = frozenset()
    costs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    needs_currencies: bool = False
    ids_by_place: bool = False
    open_interest_in_ticker: Callable[[Mapping[str, Any]], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CcxtBooks:
    """How ccxt's code for this exchange keeps order books.

    `agrees`: whether a frame's checksum matches the book after it; None if the frame has no checksum.
    `numbering`: how changes are numbered, if ccxt misses a lost change, or does not find the first change after a REST
    snapshot. `numbered_frames`: reads the numbered frames, if ccxt ignores sequence numbers.
    `changes_in_messages`: ccxt applies the numbered changes in `handle_order_book_message`.
    `whole_book`: finds the book of a snapshot, if ccxt writes snapshots over the old book.
    `checksum_frame`: finds the book of a frame that holds nothing but its checksum.
    `best_prices`: recognises by URL and content a frame of a one-level book, which ccxt would write into the full book.
    `over_rest`: the stream has changes only; the snapshot comes over REST, numbered in the same series.
    `unsubscription`: makes the request that ends a subscription, from ccxt's exchange, its market and its name for the
    subscription; None if the subscription is not that of this market's book.
    `ended_by_channel_id`: a request with ccxt's `chanId` ends the subscription. Until the exchange confirms the end, it
    refuses to subscribe again.
    `left_standing`: ccxt keeps a broken book and its subscription, whether or not it detects the damage.
    `gathered_here`: we buffer changes, because ccxt loads a REST snapshot before it subscribes, and would lose some.
    `listed_in`: the path of the list of streams in a request, so that we can shorten it.
    `asks_for_missing`: a call for many symbols subscribes only to those that are not subscribed yet.
    """

    agrees: Callable[[Book, Any], bool | None] | None = None
    numbering: Numbering | None = None
    numbered_frames: NumberedFrames | None = None
    changes_in_messages: bool = False
    whole_book: BookOfFrame | None = None
    checksum_frame: BookOfFrame | None = None
    best_prices: Callable[[str, Any], bool] | None = None
    over_rest: bool = False
    unsubscription: Callable[[Any, Any, str], dict[str, Any] | None] | None = None
    ended_by_channel_id: bool = False
    left_standing: bool = False
    gathered_here: bool = False
    listed_in: tuple[str, ...] = ()
    asks_for_missing: bool = False

    @property
    def unsubscribed_here(self) -> bool:
        """Whether the exchange sends a book again only after an unsubscription, which ccxt cannot do or omits."""
        return self.unsubscription is not None or self.ended_by_channel_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """Corrections where ccxt contradicts the exchange's documents or leaves data out.

    `market`: corrects ccxt's dict of a market. Its second argument returns ccxt's code of a currency.
    `trade`: the changes to ccxt's dict of a trade, from that dict and the raw message.
    `frame`: the frames that ccxt reads in place of a received one.
    `ticker_time`: the field with a ticker's time.
    `book_times`: paths to the time of a book's change (the first one present counts), if ccxt keeps the snapshot's
    time, or fewer digits. `ahead_of_utc_ms`: how far the socket's local times are ahead of UTC; ccxt reads them as UTC.
    """

    market: Callable[[Mapping[str, Any], Callable[[str], str]], Mapping[str, Any]] | None = None
    trade: Callable[[Trade, Any], Changes] | None = None
    frame: Callable[[Any], Sequence[Any]] | None = None
    ticker_time: str | None = None
    book_times: Sequence[Sequence[str | int]] = ()
    ahead_of_utc_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about one exchange. `exchange`: its ccxt id.

    `native`: makes the native decoder's venue, from a feed's options.
    `contracts_only`: it trades no spot, so names of perpetuals carry no `.P`. Never change it: Redis keys depend on it.
    `quotes_in_coins`: it quotes, or has quoted, in coins such as BUSD and TUSD: there `ARBUSD` is AR in BUSD, elsewhere
    it is ARB in dollars.
    `former_names`: its names in other programs (https://github.com/bmoscon/cryptofeed, defines.py), or earlier in ccxt.
    `first_market`: an example market, if it has no bitcoin in USDT.
    `lists`: pairs of a text in a request for markets (interface, path and parameters) and the family it asks for. The
    first text found counts; a request that contains none of them is required.
    `microseconds`: how the URLs of its spot sockets begin, if their times can be requested in microseconds.
    `sampled`: channels of which the exchange sends only some records, so that they can never be proved complete.
    `names`: translates market names on one socket, if ccxt uses other names than the exchange.
    """

    exchange: str
    native: Callable[[Mapping[str, Any]], Venue] | None = None
    contracts_only: bool = False
    quotes_in_coins: bool = False
    former_names: tuple[str, ...] = ()
    first_market: str | None = None
    quantities: Quantities = Quantities()  # noqa: RUF009
    open_interest: Counting = Counting()  # noqa: RUF009
    lists: Sequence[tuple[str, Family]] = ()
    microseconds: str | None = None
    sampled: frozenset[Channel] = frozenset()
    names: Callable[[Callable[[], Markets]], VenueNames] | None = None
    trades: Trades = Trades()  # frozen
    ccxt: Ccxt = Ccxt()
    books: CcxtBooks = CcxtBooks()
    corrections: Corrections = Corrections()

    def socket_names(self, markets: Callable[[], Markets]) -> VenueNames | None:
        """The translator of market names for a new socket; None if ccxt uses the exchange's own names."""
        return None if self.names is None else self.names(markets)
