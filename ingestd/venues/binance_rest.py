"""Binance's REST interface for trades: past trades with the ids of the stream, and the newest trade of each market."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.errors import Unfillable
from ingestd.venues.numbers import as_int
from ingestd.venues.trades import Ids, NewestAnswer, NewestRequest, Paging, Series, rows_by

_PREFIX = {"spot": "public", "linear": "fapiPublic", "inverse": "dapiPublic"}
_PAST_DOCS = "https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints"


def past(kind: str, stream: str | None, has_key: bool, *, spot_needs_key: bool) -> Series:
    """The series of past trades with the ids of `stream`. Trades and aggregate trades are numbered separately.

    Raises Unfillable if there is none.
    """
    prefix = _PREFIX.get(kind)
    if prefix is None:
        raise Unfillable(f"Binance serves no past trades with the stream's ids for {kind} markets")
    if stream == "aggTrade":
        method, limit = f"{prefix}GetAggTrades", 1000
    elif stream != "trade":
        raise Unfillable(f"ingestd does not know which past trades have the ids of Binance's stream {stream!r}")
    elif has_key or (kind == "spot" and not spot_needs_key):
        method, limit = f"{prefix}GetHistoricalTrades", 1000 if kind == "spot" else 500
    else:
        # Without a key only the recent trades can be had: historicalTrades needs a key, and aggregate trades cannot be
        # split into trades.
        params = {"fetchTradesMethod": f"{prefix}GetTrades"}
        return Series(Paging.RECENT, Ids.CONSECUTIVE, 1000, params, source=_PAST_DOCS)
    return Series(Paging.FROM_ID, Ids.CONSECUTIVE, limit, {"fetchTradesMethod": method}, "fromId", source=_PAST_DOCS)


_MOST_NAMED = 20  # spot answers for up to this many named markets at the weight of one


def newest(kind: str, stream: str | None) -> NewestRequest | None:
    """The request for the newest trade of each market: `lastId` of `ticker/24hr` is that trade's id.

    For contracts the newest trade may be one of the insurance fund, which the stream does not deliver.
    """
    prefix = _PREFIX.get(kind)
    if prefix is None:
        return None

    def read(row: Mapping[str, Any]) -> NewestAnswer | None:
        number = as_int(row.get("lastId"))
        if number is None or number < 0:  # -1: no trade in 24 hours
            return None
        return NewestAnswer(
            ("last id", number), number=number if stream == "trade" else None, is_certain=kind == "spot"
        )

    return NewestRequest(
        f"{prefix}GetTicker24hr",
        lambda reply: rows_by("symbol", reply if isinstance(reply, list) else [reply]),
        read,
        _newest_params,
    )


def _newest_params(kind: str, ids: Sequence[str]) -> dict[str, Any]:
    if kind != "spot":
        return {"symbol": ids[0]} if len(ids) == 1 else {}
    symbols = {"symbols": json.dumps(list(ids), separators=(",", ":"))} if len(ids) <= _MOST_NAMED else {}
    return {"type": "MINI", **symbols}
