"""What is known of an exchange, as a value. What a file leaves out is as with most exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ingestd.records import Channel
from ingestd.venues.book_frames import NumberedFrames, WholeBook
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
    """An exchange's trades.

    `consecutive_ids`: of which markets each id is the one before plus one, so that a missing trade shows; `aggregates`:
    of spot, and of contracts where the stream is `aggTrade`. `past`: how past trades are asked for with the ids of the
    stream. `newest`: how all markets are asked about at once.
    `stream_option`: where the feed's options choose the stream, as ccxt's method, its option and the default.
    `two_times`: one trade has another time over REST than on the socket, up to a second apart.
    """

    consecutive_ids: Literal["all", "aggregates"] | None = None
    past: Series | SeriesChoice = ANY_SERIES
    marks: Marks = field(default_factory=Marks)
    newest: Bulk | BulkChoice | None = None
    stream_option: tuple[str, str, str] | None = None
    two_times: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ccxt:
    """How ccxt's code of this exchange differs from what the exchange documents, or from ccxt's code of others.

    `bids_asks_in_tickers`: the stream of best prices is written to ccxt's `tickers`, not to its `bidsasks`.
    `ticks_from_books`: the ticker stream has no best bid and ask, so they are the top of the order book;
    `ticks_from_books_of`: of these market types only.
    `unserved`: the channels of a market type that ccxt or the exchange refuses, though it has them of another type.
    `misread`: the channels that ccxt takes for something else than the exchange says.
    `with_key_only`: the public channels for which ccxt asks for credentials.
    `timeframes_not_streamed`: candles that there are over REST only (ccxt's list of timeframes is that of REST).
    `tickers_one_by_one`: a call for several tickers brings no bid and ask.
    `options`: ccxt's options, unless the feed's own say otherwise.
    `same_message`: types of messages that ccxt has no handler for, and the type that they are but for their name.
    `needs_no_key`: endpoints (interface, path) that ccxt asks with a key only, though none is needed.
    `costs`: what endpoints weigh by the exchange's documents, in ccxt's units, where ccxt says less.
    `servers`: servers that ccxt has in its code and not in its `urls`.
    `needs_currencies`: markets are named after the currencies, which must be loaded before.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CcxtBooks:
    """How ccxt's code of this exchange keeps order books.

    `agrees`: whether the checksum in a frame is that of the book after it; None: the frame has none.
    `numbering`: how its changes are numbered, where ccxt does not see that one is missing, or does not find the first
    one that is newer than the book it asked for over REST. `numbered_frames`: the numbered frames, where ccxt looks at
    no number at all.
    `whole_book`: recognises the frames that bring a whole book, where ccxt writes it over the old one.
    `best_prices`: recognises by its URL and content a frame of a book of one level, which ccxt would write into the
    whole book.
    `over_rest`: the stream brings changes only; a book begins over REST, numbered in the same series.
    `unsubscribed_here`: the exchange sends a book again after an unsubscription only, which ccxt does not know, or
    leaves out. `unsubscription`: the request that ends one, from ccxt's exchange, its market and its name for the
    subscription; None: the subscription is not of this market's book.
    `left_standing`: ccxt lets a broken book and its subscription stand, whether it finds that it is broken or not.
    `gathered_here`: ccxt asks for a book over REST before it subscribes to the changes: some would be lost between.
    `listed_in`: where a request lists what it asks for, so that it can be about some of it only.
    `asks_for_missing`: a call for many symbols asks only for those that are not subscribed.
    """

    agrees: Callable[[Book, Any], bool | None] | None = None
    numbering: Numbering | None = None
    numbered_frames: NumberedFrames | None = None
    whole_book: WholeBook | None = None
    best_prices: Callable[[str, Any], bool] | None = None
    over_rest: bool = False
    unsubscribed_here: bool = False
    unsubscription: Callable[[Any, Any, str], dict[str, Any] | None] | None = None
    left_standing: bool = False
    gathered_here: bool = False
    listed_in: tuple[str, ...] = ()
    asks_for_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """What ccxt reads wrongly, or leaves out, against the exchange's documents, which win.

    `trade`: what to change in ccxt's dict of a trade, given also the message it was made of.
    `frame`: the frames that ccxt is to read in place of one.
    `ticker_time`: the field in which a ticker says its time.
    `book_times`: where a book's change says its time (the first path that is there), where ccxt keeps the snapshot's,
    or less of the digits.
    `ahead_of_utc_ms`: how far the local times that the socket writes are ahead of UTC, for which ccxt takes them.
    """

    trade: Callable[[Trade, Any], Changes] | None = None
    frame: Callable[[Any], Sequence[Any]] | None = None
    ticker_time: str | None = None
    book_times: Sequence[Sequence[str | int]] = ()
    ahead_of_utc_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One exchange, by its ccxt id.

    `native`: makes the decoder of our own, from a feed's options.
    `contracts_only`: it trades no spot, so that a perpetual's name needs no mark. This never changes: running Redis
    keys hang on it.
    `quotes_in_coins`: it quotes, or has quoted, in coins such as BUSD and TUSD rather than in the currencies that these
    stand for: there `ARBUSD` is AR in BUSD, elsewhere it is ARB in dollars.
    `former_names`: what other programs call it (https://github.com/bmoscon/cryptofeed, defines.py), or ccxt once did.
    `first_market`: a market that it has, for an example, where it is not bitcoin in USDT.
    `lists`: a text in a request for markets (its interface, path and parameters), and the family that such a request
    asks for. The first text that is found counts; a request in which none is found is required.
    `microseconds`: its spot times can be asked for in microseconds.
    `sampled`: the channels of which the exchange pushes some records only, so that nothing can prove them complete.
    `names`: translates the names of markets on one socket, where ccxt uses others than the exchange.
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
    microseconds: bool = False
    sampled: frozenset[Channel] = frozenset()
    names: Callable[[Callable[[], Markets]], VenueNames] | None = None
    trades: Trades = Trades()  # frozen
    ccxt: Ccxt = Ccxt()
    books: CcxtBooks = CcxtBooks()
    corrections: Corrections = Corrections()

    def socket_names(self, markets: Callable[[], Markets]) -> VenueNames | None:
        """What translates names on one new socket; None where ccxt says the exchange's own."""
        return None if self.names is None else self.names(markets)
