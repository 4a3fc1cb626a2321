"""The ledger, the faults' forms and the switch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from ingestd.lab.sim.faults import Fault, FaultError, parse_fault, parse_schedule
from ingestd.lab.sim.hub import text_frame
from ingestd.lab.sim.ledger import Ledger
from ingestd.lab.sim.source import Switch
from ingestd.lab.sim.venues.base import Stream
from ingestd.lab.sim.venues.binance import Binance

TRADES = Stream("btcusdt@trade", "trades", "BTCUSDT")
TICKS = Stream("btcusdt@bookTicker", "ticks", "BTCUSDT")


def trade(number: int) -> bytes:
    return b'{"e":"trade","E":1,"s":"BTCUSDT","t":%d,"p":"1.50","q":"0.10","T":5,"m":true}' % number


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger(Binance(), deduplicate=False)
    ledger.symbol_of = {"BTCUSDT": "BTC/USDT"}
    yield ledger
    ledger.close()


def send(ledger: Ledger, *numbers: int, copies: int = 1, fresh: int = 1) -> None:
    for number in numbers:
        ledger.record_trades(TRADES, trade(number), copies, str(number), records=1, fresh=fresh)


def test_copies_count_as_sent_but_once_as_distinct(ledger: Ledger) -> None:
    send(ledger, 1, 2, copies=2)
    send(ledger, 2, fresh=0)
    assert (ledger.sent["trades"], ledger.distinct_trades) == (5, 2)
    assert [json.loads(line)["trade_id"] for line in ledger.trade_lines()] == ["1", "2"]
    assert ledger.last_trade_ids == {"BTCUSDT": "2"}


def test_lines_carry_the_texts_as_sent(ledger: Ledger) -> None:
    send(ledger, 7)
    ledger.record(TICKS, b'{"u":1,"s":"BTCUSDT","b":"1.10","B":"2","a":"1.20","A":"3"}', 1)
    assert json.loads(next(ledger.trade_lines())) == {
        "symbol": "BTC/USDT",
        "market_id": "BTCUSDT",
        "trade_id": "7",
        "price": "1.50",
        "quantity": "0.10",
        "time_us": 5000,
        "time_ms": 5,
        "side": "sell",
        "stream": "btcusdt@trade",
    }
    tick = json.loads(next(ledger.tick_lines()))
    assert (tick["bid_price"], tick["ask_volume"], tick["time_ms"]) == ("1.10", "3", None)


def test_what_a_dead_socket_still_had_is_uncertain(ledger: Ledger) -> None:
    send(ledger, 1, 2)
    mark = ledger.position
    send(ledger, 3, 4)
    ledger.doubt(mark, ledger.position, frozenset({"ethusdt@trade"}))
    assert ledger.uncertain_trades() == 0
    ledger.doubt(mark, ledger.position, frozenset({TRADES.name}))
    assert ledger.uncertain_trades() == 2
    assert [json.loads(line).get("uncertain", False) for line in ledger.trade_lines()] == [False, False, True, True]


def test_withheld_trades_are_a_list_of_their_own(ledger: Ledger) -> None:
    ledger.withhold(TRADES, trade(9), 1)
    assert not list(ledger.trade_lines())
    assert [json.loads(line)["trade_id"] for line in ledger.trade_lines(withheld=True)] == ["9"]


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_frames_have_the_shortest_length_field(length: int) -> None:
    header = {0: 2, 125: 2, 126: 4, 65_535: 4, 65_536: 10}[length]
    frame = text_frame(b"x" * length)
    assert frame[0] == 0x81
    assert len(frame) == header + length


def test_faults_are_parsed_strictly() -> None:
    assert parse_fault(b'{"kind":"drop"}') == Fault("drop")
    assert parse_fault(b'{"kind":"half_open","seconds":2.5}').seconds == 2.5
    for body in (b'{"kind":"melt"}', b'{"kind":"drop","number":1}', b"{", b'{"kind":"rate_limit","status":500}'):
        with pytest.raises(FaultError):
            parse_fault(body)


def test_schedules_are_parsed_strictly() -> None:
    assert parse_schedule("drop@5").after_s == 5
    assert parse_schedule("malformed@3:10").fault == Fault("malformed", n=10)
    assert parse_schedule("half_open@8:2.5").fault == Fault("half_open", seconds=2.5)
    for text in ("drop", "melt@1", "drop@x", "burst@1:x"):
        with pytest.raises(FaultError):
            parse_schedule(text)


async def test_the_switch_waits_for_quiet() -> None:
    switch = Switch(quiet_s=0.1)
    waiting = asyncio.create_task(switch.until_on(), name="waiting")
    for _ in range(4):
        switch.subscribed()
        await asyncio.sleep(0.04)
        assert not switch.is_on
    await asyncio.wait_for(waiting, 60)
    assert switch.is_on


async def test_a_switch_stopped_by_hand_is_not_started_by_a_subscription() -> None:
    switch = Switch(quiet_s=0.0)
    switch.start()
    await switch.stop()
    switch.subscribed()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(switch.until_on(), 0.1)
    switch.start()
    await asyncio.wait_for(switch.until_on(), 60)
