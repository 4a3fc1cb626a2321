"""The facts about an exchange, as values. The defaults fit most exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ingestd.records import Channel, OpenInterestUnit
from ingestd.venues.ccxt_books import CcxtBooks
from ingestd.venues.corrections import Corrections
from ingestd.venues.families import Family
from ingestd.venues.trades import Trades
from ingestd.venues.venue import Venue

Currency: TypeAlias = Literal["base", "quote", "unknown"]
Kind: TypeAlias = Literal["linear", "inverse", "option", "other"]
ANY_KIND: frozenset[Kind] = frozenset({"linear", "inverse", "option", "other"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """The unit of a trade's quantity in contract markets; unknown by default.

    `in_contracts`: contracts of ccxt's `contractSize`, in base currency if the contract is linear, in quote currency if
    it is inverse. `currency`: quantities are in this currency instead, by kind of contract. `of_options`: the same unit
    applies to options; at other venues options have a multiplier that ccxt may lack. `quanto_multiplier`: the market
    has a field of this name with its contract size, and ccxt reads 0 as 1. `contract_value`: the market states the
    currency of a contract (`ctValCcy`) and a multiplier (`ctMult`). `base_by_default`: linear contracts are counted in
    base, which the database assumes where no unit is stored (ingestd_counted_base() in sql/migrations/0009).
    """

    in_contracts: bool = False
    currency: Mapping[str, Currency] = field(default_factory=dict)
    of_options: bool = False
    quanto_multiplier: bool = False
    contract_value: bool = False
    base_by_default: bool = False


@dataclass(frozen=True, slots=True)
class Counting:
    """The unit of a venue's open interest, by kind of contract.

    `count_read_as_value`: kinds for which ccxt returns the count as the value.
    `value_read_as_count`: kinds for which ccxt returns the value as the count, and computes another value from it.
    `value_not_in_quote`: kinds for which ccxt's value is not in quote currency.
    `unread_field`: the field of a count that ccxt does not read.
    `unit_of_sample`: reads the unit from the message itself.
    """

    linear: OpenInterestUnit | None = None
    inverse: OpenInterestUnit | None = None
    option: OpenInterestUnit | None = None
    other: OpenInterestUnit | None = None
    count_read_as_value: frozenset[Kind] = frozenset()
    value_read_as_count: frozenset[Kind] = frozenset()
    value_not_in_quote: frozenset[Kind] = frozenset()
    unread_field: str | None = None
    unit_of_sample: Callable[[Any], OpenInterestUnit | None] | None = None

    def unit(self, kind: Kind) -> OpenInterestUnit | None:
        """The unit of the open interest of this kind of contract."""
        unit: OpenInterestUnit | None = getattr(self, kind)
        return unit


IN_CONTRACTS = Counting("contracts", "contracts", "contracts", "contracts")

QUANTITIES_AS_IN_CCXT = Quantities(in_contracts=True)
"""By ccxt's convention; no page of the exchange that contradicts it was found."""


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
class Facts:
    """The facts about one exchange. `exchange`: its ccxt id.

    `native`: makes the native decoder's venue, from a feed's options.
    `contracts_only`: it trades no spot, so names of perpetuals carry no `.P`. Never change it: Redis keys depend on it.
    `quotes_in_coins`: it quotes, or has quoted, in coins such as BUSD and TUSD: there `ARBUSD` is AR in BUSD, elsewhere
    it is ARB in dollars.
    `former_names`: its names in other programs (https://github.com/bmoscon/cryptofeed, defines.py), or earlier in ccxt.
    `first_market`: an example market, if it has no bitcoin in USDT.
    `market_lists`: pairs of a text in a request for markets (interface, path and parameters) and the family it asks
    for. The first text found counts; a request that contains none of them is required.
    `microseconds`: how the URLs of its spot sockets begin, if their times can be requested in microseconds.
    `sampled`: channels of which the exchange sends only some records, so that they can never be proved complete.
    """

    exchange: str
    native: Callable[[Mapping[str, Any]], Venue] | None = None
    contracts_only: bool = False
    quotes_in_coins: bool = False
    former_names: tuple[str, ...] = ()
    first_market: str | None = None
    quantities: Quantities = Quantities()
    open_interest: Counting = Counting()
    market_lists: Sequence[tuple[str, Family]] = ()
    microseconds: str | None = None
    sampled: frozenset[Channel] = frozenset()
    trades: Trades = Trades()  # noqa: RUF009  # these are frozen
    ccxt: Ccxt = Ccxt()
    books: CcxtBooks = CcxtBooks()  # noqa: RUF009
    corrections: Corrections = Corrections()  # noqa: RUF009
