"""Partial writes: whatever a server refuses, the rest is stored, and exactly the refused points are put aside."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import ConnectionLost, PointsRefused
from ingestd.records import Candle, Record
from ingestd.sinks.influx.delivery import Delivery
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.points import Flush, Preparer
from ingestd.venues.market_names import Names
from tests.support.influx_doubles import PartialServer, Why, batch_of
from tests.support.records import NOW_US, tick, trade

CONFLICT = (
    'field type conflict: input field "price" on measurement "trade" is type float, already exists as type string'
)
OLD = "points beyond retention policy"


def flush_of(*records: Record) -> Flush:
    config = InfluxConfig(trades=True, ticks=True)
    return Preparer(config, Names("dash")).prepare([batch_of(list(records))])


def named(numbers: set[int], reason: str) -> Why:
    """Refuses the trades with these numbers."""
    ids = {f'trade_id="{number}"' for number in numbers}
    return lambda line: reason if ids & set(line.replace(" ", ",").split(",")) else None


@given(
    count=st.integers(1, 60),
    bad=st.sets(st.integers(0, 59)),
    reason=st.sampled_from([CONFLICT, OLD, "unable to parse 'x': invalid number"]),
    counts_dropped=st.booleans(),
)
def test_exactly_the_refused_are_put_aside(count: int, bad: set[int], reason: str, counts_dropped: bool) -> None:
    server = PartialServer(named(bad, reason), counts_dropped=counts_dropped)
    delivery = Delivery(flush_of(*[trade(number) for number in range(count)]), {"trade"})
    asyncio.run(delivery.write(server))
    refused = {int(refusal.record.trade_id) for refusal in delivery.refusals if hasattr(refusal.record, "trade_id")}
    assert refused == bad & set(range(count))
    assert len(delivery.refusals) == len(refused)
    assert all(reason in refusal.error for refusal in delivery.refusals)
    assert len(server.points) == count - len(refused)
    assert delivery.waiting == 0


async def test_a_chunk_that_is_refused_as_a_whole_takes_one_request() -> None:
    """As after a month's outage: halving 5,000 points would take 10,000 requests."""
    server = PartialServer(lambda _: OLD)
    delivery = Delivery(flush_of(*[trade(number) for number in range(500)]), set())
    await delivery.write(server)
    assert (server.requests, len(delivery.refusals)) == (1, 500)
    assert {refusal.reason for refusal in delivery.refusals} == {"influx_older_than_retention"}


async def test_a_measurement_that_takes_nothing_is_not_emptied_into_the_file() -> None:
    """Its fields have another type since before us: somebody must change that, and then all of it is stored."""
    server = PartialServer(lambda line: CONFLICT if line.startswith("trade") else None)
    taken: set[str] = set()
    delivery = Delivery(flush_of(trade(1), tick(1), trade(2)), taken)
    for _ in range(2):
        with pytest.raises(PointsRefused, match="field type conflict"):
            await delivery.write(server)
    assert delivery.refusals == []
    assert (delivery.waiting, taken) == (2, {"tick"})
    server.why = lambda _: None
    await delivery.write(server)
    assert len(server.points) == 3
    assert delivery.refusals == []


@pytest.mark.parametrize("said", ["max-values-per-tag limit exceeded (100/100)", "something that nobody knows"])
async def test_a_refusal_that_is_not_the_points_fault_is_no_reason_to_put_them_aside(said: str) -> None:
    server = PartialServer(lambda _: said)
    delivery = Delivery(flush_of(trade(1), trade(2)), {"trade"})
    with pytest.raises(PointsRefused):
        await delivery.write(server)
    assert (delivery.refusals, delivery.waiting) == ([], 2)


async def test_a_request_that_is_too_large_is_halved() -> None:
    class Small(PartialServer):
        async def write(self, body: bytes) -> None:
            if body.count(b"\n") > 3:
                raise PointsRefused("HTTP 413", status=413, said="Request Entity Too Large", dropped=None)
            await super().write(body)

    server = Small()
    delivery = Delivery(flush_of(*[trade(number) for number in range(20)]), set())
    await delivery.write(server)
    assert len(server.points) == 20
    assert delivery.refusals == []


async def test_an_attempt_goes_on_where_the_last_one_failed() -> None:
    server = PartialServer(named({3}, CONFLICT))
    delivery = Delivery(flush_of(*[trade(number) for number in range(8)]), {"trade"})
    server.trouble = ConnectionLost("away")
    with pytest.raises(ConnectionLost):
        await delivery.write(server)
    assert delivery.waiting == 8
    server.trouble = None
    await delivery.write(server)
    assert len(server.points) == 7
    assert [refusal.reason for refusal in delivery.refusals] == ["influx_field_type"]


async def test_measurements_are_written_apart() -> None:
    """So that one that is refused does not halve the requests of the others."""
    server = PartialServer(lambda line: OLD if line.startswith("candle") else None)
    old = Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1m", "1", "1", "1", "1", "1")
    delivery = Delivery(flush_of(trade(1), old, tick(1), trade(2)), set())
    await delivery.write(server)
    assert server.requests == 3
    assert len(server.points) == 3
