"""Open interest as each venue says it: its REST answer in, what is open, its value and its unit out.

Expectations are from the venues' documents: what their number counts, and whether it is a value.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ingestd.feeds.ccxt import records as ccxt_records
from ingestd.feeds.ccxt.records import kind_of_contract, open_interest_unit
from ingestd.records import OpenInterest
from tests.support.fake_venue import FakeVenue, Running
from tests.unit.feeds.doubles import Wire

RECEIVED_AT = 1_790_000_000_000_000
Found = tuple[str | None, str | None, str | None]  # open interest, its value, unit


@dataclass(frozen=True)
class Answer:
    """What a venue's REST answers for one market."""

    exchange: str
    symbol: str
    market_id: str
    body: str
    found: Found
    path: str = ""

    def __str__(self) -> str:
        return f"{self.exchange}-{self.symbol}"


def bybit(category: str, number: str) -> str:
    return (
        f'{{"retCode":0,"retMsg":"OK","result":{{"symbol":"X","category":"{category}","list":[{{"openInterest":"{number}",'
        '"timestamp":"1669571400000"}],"nextPageCursor":""},"retExtInfo":{},"time":1672053548579}'
    )


def deribit(name: str, number: str) -> str:
    return (
        f'{{"jsonrpc":"2.0","result":[{{"instrument_name":"{name}","open_interest":{number},"mark_price":87102.01,'
        '"creation_timestamp":1763674177068,"volume_usd":661040250.0}],"usIn":1,"usOut":2,"usDiff":1,"testnet":false}'
    )


ANSWERS = [
    Answer("bybit", "BTC/USD:BTC", "BTCUSD", bybit("inverse", "461134384.00000000"),
           (None, "461134384.00000000", "quote")),
    Answer("bybit", "BTC/USDT:USDT", "BTCUSDT", bybit("linear", "64757.62400000"), ("64757.62400000", None, "base")),
    Answer("deribit", "BTC/USD:BTC", "BTC-PERPETUAL", deribit("BTC-PERPETUAL", "9978911260"),
           (None, "9978911260", "quote")),
    Answer("deribit", "BTC/USDC:USDC", "BTC_USDC-PERPETUAL", deribit("BTC_USDC-PERPETUAL", "1158.47"),
           ("1158.47", None, "base")),
    Answer("binanceusdm", "BTC/USDT:USDT", "BTCUSDT",
           '{"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}', ("10659.509", None, "base")),
    Answer("binancecoinm", "BTC/USD:BTC", "BTCUSD_PERP",
           '{"symbol":"BTCUSD_PERP","pair":"BTCUSD","openInterest":"15004","contractType":"PERPETUAL","time":1591261042378}',
           ("15004", None, "contracts")),
    Answer("okx", "BTC/USDT:USDT", "BTC-USDT-SWAP",
           '{"code":"0","msg":"","data":[{"instId":"BTC-USDT-SWAP","instType":"SWAP","oi":"5000.5","oiCcy":"50.005",'
           '"oiUsd":"3000300.10","ts":"1597026383085"}]}', ("5000.5", "3000300.10", "contracts")),
    Answer("bingx", "BTC/USDT:USDT", "BTC-USDT",
           '{"code":0,"msg":"","data":{"openInterest":"3289641547.10","symbol":"BTC-USDT","time":1672026617364}}',
           (None, "3289641547.10", "quote")),
    Answer("backpack", "BTC/USDC:USDC", "BTC_USDC_PERP",
           '[{"openInterest":"1273.85214","symbol":"BTC_USDC_PERP","timestamp":1753105735301}]',
           ("1273.85214", None, "base")),
    # https://phemex-docs.github.io/#query-24-hours-ticker: contracts with scaled prices have a ticker of their own
    Answer("phemex", "BTC/USD:BTC", "BTCUSD",
           '{"error":null,"id":0,"result":{"closeEp":87425000,"fundingRateEr":10000,"indexEp":87450676,"markEp":87453092,'
           '"openInterest":7821141,"symbol":"BTCUSD","timestamp":1583646442444219017,"turnoverEv":1399362834123,'
           '"volume":125287131}}', ("7821141", None, "contracts"), "/md/ticker/24hr"),
    Answer("phemex", "BTC/USDT:USDT", "BTCUSDT",
           '{"error":null,"id":0,"result":{"markPriceRp":"67550.1","openInterestRv":"1848.1144186","symbol":"BTCUSDT",'
           '"timestamp":"1729114315443343001"}}', ("1848.1144186", None, None), "/md/v2/ticker/24hr"),
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
async def test_what_rest_answers_is_stored(answer: Answer) -> None:
    wire = Wire(answer.exchange, {answer.symbol: answer.market_id}, "wss://localhost")

    async def fetch(url: str, *_asked: Any, **_more: Any) -> Any:
        assert answer.path in url
        return wire.exchange.parse_json(answer.body)

    wire.exchange.fetch = fetch
    interest = await wire.exchange.fetch_open_interest(answer.symbol)
    wire.reader.on_returned("open_interest", [answer.symbol], interest, RECEIVED_AT)
    records = wire.intake.of(OpenInterest)
    await wire.close()
    assert [(one.open_interest, one.open_interest_usd, one.unit) for one in records] == [answer.found]
    assert wire.ledger.counts.incomplete_records == 0


# Rows of a venue's past, and of others that ccxt reads; each as its `parse_open_interest` takes it.
PARSED: list[tuple[str, str, str, Any, Found]] = [
    ("binancecoinm", "BTC/USD:BTC", "BTCUSD_PERP",
     {"pair": "BTCUSD", "contractType": "PERPETUAL", "sumOpenInterest": "20403",
      "sumOpenInterestValue": "176196512.234", "timestamp": 1591261042378}, ("20403", None, "contracts")),
    ("binanceusdm", "BTC/USDT:USDT", "BTCUSDT",
     {"symbol": "BTCUSDT", "sumOpenInterest": "20403.63700000", "sumOpenInterestValue": "150570784.07809979",
      "timestamp": 1583127900000}, ("20403.63700000", "150570784.07809979", "base")),
    ("bybit", "BTC/USD:BTC", "BTCUSD", {"openInterest": "461134384.00000000", "timestamp": "1669571400000"},
     (None, "461134384.00000000", "quote")),
    ("okx", "BTC/USDT:USDT", "BTC-USDT-SWAP", ["1790550000000", "2800476.45", "28006.5419", "2360916466.88"],
     ("2800476.45", "2360916466.88", "contracts")),
    ("okx", "BTC/USDT:USDT", "BTC-USDT-SWAP", ["1648221300000", "2183354317.945", "74285877.617"],
     (None, "2183354317.945", "quote")),
    ("htx", "BTC/USDT:USDT", "BTC-USDT",
     {"volume": "4385.435", "amount_type": "2", "ts": "1648220400000", "value": "194059884.185"},
     ("4385.435", "194059884.185", "base")),
    ("htx", "BTC/USDT:USDT", "BTC-USDT",
     {"volume": "32476092", "amount": "32476.092", "value": "2063137924.9668", "contract_code": "BTC-USDT"},
     ("32476092", "2063137924.9668", "contracts")),
    ("gate", "BTC/USDT:USDT", "BTC_USDT",
     {"time": "1674057000", "open_interest": "2851725", "open_interest_usd": "9872386.7775"},
     ("2851725", "9872386.7775", "contracts")),
    ("bitget", "BTC/USDT:USDT", "BTCUSDT",
     {"openInterestList": [{"symbol": "BTCUSDT", "size": "52234.134"}], "ts": "1700866041023"},
     ("52234.134", None, "base")),
    ("pacifica", "BTC/USDC:USDC", "BTC",
     {"symbol": "BTC", "open_interest": "3634796", "mark": "1.084819", "timestamp": 1759222967974},
     (None, "3634796", "quote")),
    ("gemini", "BTC/GUSD:GUSD", "BTCGUSDPERP",
     {"mark_price": "9.023", "open_interest": "4681.9", "open_interest_notional": "42244.7837"},
     ("4681.9", "42244.7837", "base")),
    ("hitbtc", "BTC/USDT:USDT", "BTCUSDT_PERP",
     {"mark_price": "42307.43", "open_interest": "30.9826", "timestamp": "2022-03-22T08:08:26.687Z"},
     ("30.9826", None, None)),
    ("phemex", "BTC/USDT:USDT", "BTCUSDT",
     {"symbol": "BTCUSDT", "openInterestRv": "1848.1144186", "timestamp": "1729114315443343001"},
     ("1848.1144186", None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("exchange", "symbol", "market_id", "row", "found"), PARSED)
async def test_what_a_row_says(exchange: str, symbol: str, market_id: str, row: Any, found: Found) -> None:
    wire = Wire(exchange, {symbol: market_id}, "wss://localhost")
    parsed = wire.exchange.parse_open_interest(wire.exchange.parse_json(json.dumps(row)), wire.exchange.market(symbol))
    await wire.close()
    record = ccxt_records.open_interest_record(exchange, symbol, parsed, RECEIVED_AT)
    assert record is not None
    assert (record.open_interest, record.open_interest_usd, record.unit) == found


def test_neither_side_is_no_record() -> None:
    assert ccxt_records.open_interest_record("bybit", "BTC/USDT:USDT", {"info": {}}, RECEIVED_AT) is None


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("BTC/USDT:USDT", "linear"),
        ("BTC/USD:BTC", "inverse"),
        ("BTC/USD:BTC-261225", "inverse"),
        ("BTC/USDC:USDC-261225", "linear"),
        ("BTC/USD:BTC-261225-60000-C", "option"),
        ("ETH/USD:BTC", "other"),
        ("BTC/USDT", "other"),
    ],
)
def test_the_kind_of_a_contract_is_in_its_name(symbol: str, kind: str) -> None:
    assert kind_of_contract(symbol) == kind


def test_an_unknown_venue_has_no_unit() -> None:
    assert open_interest_unit("somewhere", "BTC/USDT:USDT") is None
    assert open_interest_unit("bybit", "BTC/USD:BTC") == "quote"


async def test_contracts_that_the_list_of_all_leaves_out_are_asked_for_by_name() -> None:
    """https://www.okx.com/docs-v5/en/#public-data-rest-api-get-open-interest: `instType` is required, and the library
    asks for SWAP; a dated contract is in the list of FUTURES alone."""
    row = {"uly": "BTC-USD", "settleCcy": "BTC", "ctVal": "100", "ctMult": "1", "ctValCcy": "USD", "ctType": "inverse"}
    row |= {"tickSz": "0.1", "lotSz": "1", "minSz": "1", "state": "live", "baseCcy": "", "quoteCcy": "", "optType": ""}
    row |= {"lever": "100", "listTime": "1606468572000", "alias": "", "stk": "", "expTime": ""}
    swap = {**row, "instId": "BTC-USD-SWAP", "instType": "SWAP"}
    dated = {**row, "instId": "BTC-USD-301227", "instType": "FUTURES", "expTime": "1924588800000"}
    counts = {"BTC-USD-SWAP": "5000.5", "BTC-USD-301227": "77"}

    def listed(request: Any) -> Any:
        kind = request.query["instType"]
        return {"code": "0", "msg": "", "data": [one for one in (swap, dated) if one["instType"] == kind]}

    def open_interest(request: Any) -> Any:
        kind, name = request.query["instType"], request.query.get("instId")
        rows = [
            {"instId": one["instId"], "instType": kind, "oi": counts[one["instId"]], "oiCcy": "", "ts": "1597026383085"}
            for one in (swap, dated)
            if one["instType"] == kind and name in (None, one["instId"])
        ]
        return {"code": "0", "msg": "", "data": rows}

    venue = FakeVenue(lambda _connection, _message: [])
    venue.replies |= {"/api/v5/public/instruments": listed, "/api/v5/public/open-interest": open_interest}
    await venue.start()
    symbols = ["BTC/USD:BTC", "BTC/USD:BTC-301227"]
    running = Running(venue, "okx", "https://www.okx.com", symbols=symbols, channels=["open_interest"])
    try:
        await running.until(lambda: len(running.intake.of(OpenInterest)) == len(symbols))
        found = {one.symbol: (one.open_interest, one.unit) for one in running.intake.of(OpenInterest)}
    finally:
        await running.close()
        await venue.stop()
    assert found == {symbols[0]: ("5000.5", "contracts"), symbols[1]: ("77", "contracts")}
