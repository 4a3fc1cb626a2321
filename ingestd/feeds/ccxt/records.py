"""Converts ccxt's unified dicts to records. Pure. Returns None if a required value is missing.

Where ccxt contradicts an exchange's documents, the exchange's file in `venues` has the correction. Times are the
exchange's, in microseconds if its message is that precise. Without a time, `time` = `received_at`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingestd.feeds.markets.quantity_units import contract_of, positive_size
from ingestd.feeds.markets.symbols import kind_by_name
from ingestd.records import BookSnapshot, Candle, Funding, Level, OpenInterest, OpenInterestUnit, Side, Tick, Trade
from ingestd.status import MarketInfo
from ingestd.venues.all import facts_of
from ingestd.venues.exact import decimal_text, sent_text
from ingestd.venues.facts import Kind, OpenInterestUnits
from ingestd.venues.numbers import annualised_rate
from ingestd.venues.times import BOOK_TIME, epoch_us, moment_us, time_us
from ingestd.venues.trade_identity import TradeIds

_SEQ_LIMIT = 2**63
_KINDS: Mapping[str, Kind] = {"linear": "linear", "inverse": "inverse", "option": "option"}


def trade_record(
    exchange: str, symbol: str, trade: Mapping[str, Any], received_at: int, ids: TradeIds, unit: str | None = None
) -> Trade | None:
    """A public trade. `side` is the taker side, None if not stated. `unit`: see `quantity_units.unit_of`."""
    correct = facts_of(exchange).corrections.trade
    if correct is not None:
        trade = {**trade, **correct(trade, trade.get("info"))}
    price, quantity = decimal_text(trade.get("price")), decimal_text(trade.get("amount"))
    if price is None or quantity is None:
        return None
    info = trade.get("info")
    sent: Sequence[Any] = list(info.values()) if isinstance(info, Mapping) else info if isinstance(info, list) else ()
    price, quantity = sent_text(price, sent), sent_text(quantity, sent)
    said = trade.get("side")
    side: Side | None = said if said in ("buy", "sell") else None
    marks = facts_of(exchange).trades.marks
    kind = marks.kind(info)
    time = time_us(trade.get("timestamp"), info, received_at)
    trade_id = str(trade.get("id") or "") or ids.synthetic(symbol, time // 1000, price, quantity, side, received_at)
    seq, in_candles = ids.seq(trade_id), kind not in marks.not_in_candles
    return Trade(exchange, symbol, time, received_at, trade_id, seq, side, price, quantity, kind, in_candles, unit)


def tick_record(exchange: str, symbol: str, ticker: Mapping[str, Any], received_at: int) -> Tick | None:
    """The best bid and ask of a ticker; None if it has neither."""
    bid, ask = decimal_text(ticker.get("bid")), decimal_text(ticker.get("ask"))
    if bid is None and ask is None:
        return None
    info = ticker.get("info")
    field = facts_of(exchange).corrections.ticker_time
    time = moment_us(info.get(field)) if field is not None and isinstance(info, Mapping) else None
    time = time or time_us(ticker.get("timestamp"), info, received_at, ticker.get("datetime"))
    bid_volume, ask_volume = decimal_text(ticker.get("bidVolume")), decimal_text(ticker.get("askVolume"))
    return Tick(exchange, symbol, time, received_at, bid, bid_volume, ask, ask_volume)


def top_record(exchange: str, symbol: str, book: Mapping[str, Any], received_at: int) -> Tick | None:
    """The best bid and ask of a book; None if it is empty or crossed, since a crossed book is wrong."""
    bids, asks = list(_levels(book["bids"][:1])), list(_levels(book["asks"][:1]))
    if (not bids and not asks) or (bids and asks and book["bids"][0][0] >= book["asks"][0][0]):
        return None
    bid, bid_volume = bids[0] if bids else (None, None)
    ask, ask_volume = asks[0] if asks else (None, None)
    return Tick(exchange, symbol, book_time(book, received_at), received_at, bid, bid_volume, ask, ask_volume)


def book_time_us(exchange: str, frame: Any) -> int | None:
    """When this frame's book changed according to the exchange, in microseconds; None: use ccxt's time.

    `frame` is ccxt's book where ccxt combined it from a REST snapshot.
    """
    corrections = facts_of(exchange).corrections
    for path in corrections.book_times:
        value = frame
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            moment = moment_us(value)
            return None if moment is None else moment - corrections.ahead_of_utc_ms * 1000
    return None


def book_time(book: Mapping[str, Any], received_at: int) -> int:
    """When the exchange changed the book, in microseconds; if not stated, when it was received."""
    time: int = book.get(BOOK_TIME) or time_us(book.get("timestamp"), None, received_at, book.get("datetime"))
    return time


def book_record(
    exchange: str, symbol: str, book: Mapping[str, Any], received_at: int, levels: int
) -> BookSnapshot | None:
    """The top levels of a book; None if both sides are empty. `valid` is False if the sides cross."""
    bids, asks = book["bids"][:levels], book["asks"][:levels]
    if not bids and not asks:
        return None
    nonce = book.get("nonce")
    sequence = nonce if isinstance(nonce, int) and nonce < _SEQ_LIMIT else None
    valid = not (bids and asks and bids[0][0] >= asks[0][0])
    time, best_bids, best_asks = book_time(book, received_at), tuple(_levels(bids)), tuple(_levels(asks))
    return BookSnapshot(exchange, symbol, time, received_at, best_bids, best_asks, sequence, valid)


def funding_record(exchange: str, symbol: str, rate: Mapping[str, Any], received_at: int) -> Funding | None:
    """A funding rate, annualised if ccxt states the interval."""
    funding_rate = decimal_text(rate.get("fundingRate"))
    if funding_rate is None:
        return None
    due = rate.get("fundingTimestamp") or rate.get("nextFundingTimestamp")
    interval = rate.get("interval")  # such as `8h`
    hours = interval[:-1] if isinstance(interval, str) and interval.endswith("h") else None
    yearly = annualised_rate(funding_rate, hours) if hours is not None else None
    time, due_us = time_us(rate.get("timestamp"), rate.get("info"), received_at), int(due) * 1000 if due else None
    mark_price = decimal_text(rate.get("markPrice"))
    return Funding(exchange, symbol, time, received_at, funding_rate, due_us, yearly, mark_price=mark_price)


def open_interest_record(
    exchange: str, symbol: str, interest: Mapping[str, Any], received_at: int
) -> OpenInterest | None:
    """Open interest in the exchange's unit, its value in the quote currency, or both; None if neither is stated."""
    amount, value, unit = _counted(exchange, symbol, interest)
    if amount is None and value is None:
        return None
    time = time_us(interest.get("timestamp"), interest.get("info"), received_at)
    return OpenInterest(exchange, symbol, time, received_at, amount, value, unit=unit)


def _counted(
    exchange: str, symbol: str, interest: Mapping[str, Any]
) -> tuple[str | None, str | None, OpenInterestUnit | None]:
    """The open interest in the exchange's unit, its value in the quote currency, and the unit.

    An exchange that counts in the quote currency gives only the value.
    """
    amount = decimal_text(interest.get("openInterestAmount"))
    value = decimal_text(interest.get("openInterestValue"))
    venue, kind = facts_of(exchange).open_interest, kind_of_contract(symbol)
    info = interest.get("info")
    if amount is None and venue.unread_field is not None and isinstance(info, Mapping):
        amount = decimal_text(info.get(venue.unread_field))
    if kind in venue.value_not_in_quote:
        value = None
    if kind in venue.count_read_as_value and amount is None:
        amount, value = value, None
    if kind in venue.value_read_as_count:
        amount, value = None, amount
    if amount is None:
        return None, value, "quote" if venue != OpenInterestUnits() else None
    return amount, value, (venue.unit_of_sample and venue.unit_of_sample(info)) or venue.unit(kind)


def open_interest_unit(exchange: str, symbol: str) -> OpenInterestUnit | None:
    """The unit of this market's open interest on this exchange; None if the exchange's file states none."""
    return facts_of(exchange).open_interest.unit(kind_of_contract(symbol))


def kind_of_contract(symbol: str) -> Kind:
    """The kind of contract, derived from its unified symbol."""
    return _KINDS.get(kind_by_name(symbol), "other")


def candle_record(
    exchange: str, symbol: str, row: Sequence[Any], received_at: int, timeframe: str, ahead_ms: int = 0
) -> Candle | None:
    """A candle from ccxt's `[opening time (ms), open, high, low, close, volume]`. `ahead_ms`: how far the exchange's
    time in the row is ahead of UTC."""
    if len(row) < 6 or not row[0]:
        return None
    opened, high, low, closed, volume = map(decimal_text, row[1:6])
    if opened is None or high is None or low is None or closed is None:
        return None
    time = epoch_us(int(row[0]) - ahead_ms)
    return Candle(exchange, symbol, time, received_at, timeframe, opened, high, low, closed, volume or "0")


def market_info(exchange: str, market: Mapping[str, Any]) -> MarketInfo:
    """The row of table `symbols` for a ccxt market."""
    amounts = (market.get("limits") or {}).get("amount") or {}
    precision = market.get("precision") or {}
    contract = contract_of(exchange, market)
    return MarketInfo(
        exchange=exchange,
        symbol=str(market["symbol"]),
        market_id=str(market["id"]),
        base=str(market.get("base") or ""),
        quote=str(market.get("quote") or ""),
        type=str(market.get("type") or "spot"),
        active=market.get("active") is not False,
        min_amount=decimal_text(amounts.get("min")),
        max_amount=decimal_text(amounts.get("max")),
        price_precision=decimal_text(precision.get("price")),
        amount_precision=decimal_text(precision.get("amount")),
        linear=contract.linear,
        contract_size=positive_size(exchange, market),
        quantity_unit=contract.quantity_unit,
        open_interest_unit=open_interest_unit(exchange, str(market["symbol"])) if market.get("contract") else None,
    )


def _levels(levels: Sequence[Sequence[Any]]) -> Iterator[Level]:
    for level in levels:
        price, amount = decimal_text(level[0]), decimal_text(level[1])
        if price is not None and amount is not None:
            yield price, amount


def rows_of(result: Any) -> Sequence[Mapping[str, Any]]:
    """The rows of a call's result: one unified dict, a list of them, or a dict of them by symbol."""
    if isinstance(result, Mapping):
        return [result] if isinstance(result.get("symbol"), str) else [v for v in result.values() if v]
    return [row for row in result or () if row]
