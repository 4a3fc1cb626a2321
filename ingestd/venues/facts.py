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

    `in_contracts`: a quantity counts contracts. The size of one is ccxt's `contractSize`, in base currency if the
    contract is linear, in quote currency if it is inverse.
    `currency`: quantities are in this currency instead, by kind of contract.
    `of_options`: the same unit applies to options; at other venues options have a multiplier that ccxt may lack.
    `quanto_multiplier`: the market has a field of this name with its contract size, and ccxt reads a size of 0 as 1.
    `contract_value`: the market names the currency of its contract size (`ctValCcy`) and a multiplier (`ctMult`). Where
    they contradict `contractSize`, the unit is unknown.
    `base_by_default`: linear contracts counted in base are stored without a unit, because the database assumes base
    (ingestd_counted_base() in sql/migrations/0009).
    """

    in_contracts: bool = False
    currency: Mapping[str, Currency] = field(default_factory=dict)
    of_options: bool = False
    quanto_multiplier: bool = False
    contract_value: bool = False
    base_by_default: bool = False


@dataclass(frozen=True, slots=True)
class OpenInterestUnits:
    """The unit of a venue's open interest, by kind of contract.

    `count_read_as_value`: kinds for which ccxt returns the count as the value.
    `value_read_as_count`: kinds for which ccxt returns the value as the count, and computes another value from it.
    `value_not_in_quote`: kinds for which ccxt's value is not in quote currency.
    `unread_field`: the message's field with the count, if ccxt does not read it.
    `unit_of_sample`: reads the unit from the message itself; it goes before the unit of the kind.
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


IN_CONTRACTS = OpenInterestUnits("contracts", "contracts", "contracts", "contracts")

QUANTITIES_AS_IN_CCXT = Quantities(in_contracts=True)
"""ccxt's convention, for exchanges of which no document was found that contradicts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ccxt:
    """How ccxt's code for this exchange differs from the exchange's documents, or from ccxt's code for others. Each
    difference is one attribute.

    `symbols_per_call`: how many symbols one call for several symbols may have.
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
    `needs_ticker_for_open_interest`: whether a market's open interest must be read from ccxt's `fetch_ticker`, because
    `fetch_open_interest` requests the wrong ticker.
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
    needs_ticker_for_open_interest: Callable[[Mapping[str, Any]], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about one exchange. `exchange`: its ccxt id.

    `native`: makes the native decoder's venue, from a feed's options.
    `contracts_only`: it trades no spot, so names of perpetuals carry no `.P`. Never change it: Redis keys depend on it.
    `quotes_in_coins`: it quotes, or has quoted, in coins such as BUSD and TUSD. At such an exchange `ARBUSD` means AR
    in BUSD; elsewhere it means ARB in dollars.
    `former_names`: its names in other programs (https://github.com/bmoscon/cryptofeed, defines.py), or earlier in ccxt.
    `example_market`: the market for examples, if it has no bitcoin in USDT.
    `families_by_request`: which family of markets a request asks for, as pairs of a text and a family. The request
    (interface, path and parameters) belongs to the first pair whose text it contains; if it contains none, every feed
    needs it.
    `microsecond_url_prefix`: the beginning of the URLs of its spot sockets, if these can send times in microseconds.
    `sampled`: channels of which the exchange sends only some records, so that they can never be proved complete.
    """

    exchange: str
    native: Callable[[Mapping[str, Any]], Venue] | None = None
    contracts_only: bool = False
    quotes_in_coins: bool = False
    former_names: tuple[str, ...] = ()
    example_market: str | None = None
    quantities: Quantities = Quantities()
    open_interest: OpenInterestUnits = OpenInterestUnits()
    families_by_request: Sequence[tuple[str, Family]] = ()
    microsecond_url_prefix: str | None = None
    sampled: frozenset[Channel] = frozenset()
    trades: Trades = Trades()  # noqa: RUF009  # these are frozen
    ccxt: Ccxt = Ccxt()
    books: CcxtBooks = CcxtBooks()  # noqa: RUF009
    corrections: Corrections = Corrections()  # noqa: RUF009
