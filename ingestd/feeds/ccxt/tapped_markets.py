"""Reads the markets of a tapped exchange one by one, so that a malformed market does not affect the others.

`TappedMarkets` is a mixin for a ccxt.pro exchange class. Nothing here imports ccxt.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Any

from ingestd.errors import NoMarketList
from ingestd.feeds.ccxt.bounded_numbers import require_short
from ingestd.feeds.ccxt.market_answers import MarketAnswers, read_leniently
from ingestd.feeds.markets.families import family_of
from ingestd.feeds.markets.judge import shown_name, why_malformed, with_ids_of_others
from ingestd.venues.all import facts_of
from ingestd.venues.exact import decode_json
from ingestd.venues.families import Family

_WRONG_FORM = (AttributeError, IndexError, KeyError, TypeError)  # ccxt's code met something that is no list of markets
_NOT_A_LIST = "{}: its list of markets does not have the expected form ({}): check which server answers, and `url_map`"
_EMPTY = "returned an empty response"  # ccxt's error for an empty market list of HTX


class TappedMarkets:
    """Mixin that loads markets. `left_out`: the reason for each malformed market of the last list, by its name.
    `missing`: the reason for each family of markets whose separate list could not be fetched."""

    id: str
    code_name: str
    common_currency_code: Callable[[str], str]

    def __init__(self, config: dict[str, Any]) -> None:
        self.left_out: dict[str, str] = {}
        self.missing: dict[Family, str] = {}
        self._answers: MarketAnswers | None = None
        self._unread: dict[str, str] = {}  # left out by a load that `sound_markets` has not processed yet
        super().__init__(config)  # type: ignore[call-arg]

    async def fetch_markets(self, params: Any = None) -> Any:
        """Fetch as ccxt does, but leave out entries that ccxt cannot read and families that the exchange does not
        deliver. Raises ccxt's error if that does not help."""
        if self._answers is not None:  # ccxt called this method recursively
            return await super().fetch_markets(params or {})  # type: ignore[misc]
        self._answers = answers = MarketAnswers(entries_may_go=not facts_of(self.code_name).ccxt.ids_by_place)
        try:
            while True:
                answers.read_again()
                try:
                    markets = await super().fetch_markets(params or {})  # type: ignore[misc]
                except Exception as error:
                    if not answers.remove_unreadable(error):
                        if isinstance(error, _WRONG_FORM):
                            raise NoMarketList(_NOT_A_LIST.format(self.id, type(error).__name__)) from error
                        raise
                    await asyncio.sleep(0)  # reading a list blocks the event loop for a while
                else:
                    break
            answers.was_read()
            answers.require_one()
            answers.note_passed_over(markets or ())
        finally:
            self._answers = None
        self._unread, self.missing = answers.left_out, answers.missing
        await asyncio.sleep(0)  # ccxt's next step with a long list blocks it for a while too
        return markets

    async def fetch2(self, path: str, api: Any = "public", method: str = "GET", params: Any = None, *args: Any) -> Any:
        def fetch() -> Awaitable[Any]:
            asked: Awaitable[Any] = super(TappedMarkets, self).fetch2(path, api, method, params or {}, *args)  # type: ignore[misc]
            return asked

        if self._answers is None:
            return await fetch()
        request = json.dumps([api, path, method, params], sort_keys=True, default=str)
        return await self._answers.ask(request, family_of(self.code_name, api, path, params), fetch)

    async def fetch_markets_by_type_and_sub_type(self, *args: Any) -> Any:
        """Return [] for a list that could not be fetched, where ccxt's HTX code would raise."""
        try:
            return await super().fetch_markets_by_type_and_sub_type(*args)  # type: ignore[misc]
        except Exception as error:
            if self._answers is None or not self._answers.missing or _EMPTY not in str(error):
                raise
            return []

    def parse_precision(self, precision: Any) -> Any:
        if precision is not None:
            require_short(int(precision))
        return super().parse_precision(precision)  # type: ignore[misc]

    def integer_precision_to_amount(self, precision: Any) -> Any:
        if precision is not None:
            require_short(int(precision))
        return super().integer_precision_to_amount(precision)  # type: ignore[misc]

    def parse_markets(self, markets: Any) -> Any:
        return super().parse_markets([] if markets is None else markets)  # type: ignore[misc]

    def parse_market(self, market: Any, *args: Any) -> Any:
        return self._read(super().parse_market, market, *args)  # type: ignore[misc]

    def parse_spot_market(self, market: Any, *args: Any) -> Any:
        return self._read(super().parse_spot_market, market, *args)  # type: ignore[misc]

    def parse_swap_market(self, market: Any, *args: Any) -> Any:
        return self._read(super().parse_swap_market, market, *args)  # type: ignore[misc]

    def parse_contract_market(self, market: Any, *args: Any) -> Any:
        return self._read(super().parse_contract_market, market, *args)  # type: ignore[misc]

    def _read(self, read: Callable[..., Any], market: Any, *args: Any) -> Any:
        """Read one market with ccxt's code. None if it fails: ccxt then skips the market."""
        if self._answers is None:
            return read(market, *args)
        try:
            found = read(market, *args)
        except Exception as error:  # noqa: BLE001  # ccxt may raise anything; the next market must still be read
            self._answers.leave_out(market, f"cannot be read: {type(error).__name__}: {error}"[:200])
            return None
        if found is None:
            self._answers.leave_out(market, "the exchange library makes no market of it")
        return found

    def sound_markets(self, listed: Sequence[Any], followed: Container[str] = frozenset()) -> list[Mapping[str, Any]]:
        """The markets of a list that can be followed and stored; `left_out` holds the reasons for the others."""
        self.left_out, self._unread = self._unread, {}
        correct = facts_of(self.id).corrections.market
        sound = []
        for market in listed:
            why = why_malformed(market)
            if why is None and correct is not None:
                market = correct(market, self.common_currency_code)
                why = why_malformed(market)
            if why is None:
                sound.append(market)
            elif market is not None:
                self.left_out[shown_name(market)] = why
        doubles = with_ids_of_others(sound, followed)
        self.left_out.update(doubles)
        return [market for market in sound if market["symbol"] not in doubles]

    def on_json_response(self, body: str) -> Any:
        if self._answers is not None:
            self._answers.note_text(len(body))
        try:
            return decode_json(body)
        except ValueError:
            if self._answers is None:
                raise
            return read_leniently(body)
