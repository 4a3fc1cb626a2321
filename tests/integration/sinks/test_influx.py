"""The sink into InfluxDB on a real server: what is stored, what is refused, and what an outage costs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestd.clock import now_us
from ingestd.records import Candle, Record
from ingestd.sinks.influx.refused import FILE_NAME
from tests.support.influx_rig import InfluxRig, influx_rig
from tests.support.influx_servers import Influx1
from tests.support.records import NOW_US, book, tick, trade
from tests.support.time_limits import limit_s

MINUTE_US = 60 * 10**6
HOUR_US = 60 * MINUTE_US


def candle(opens_us: int, timeframe: str = "1m", **changes: object) -> Candle:
    values: dict[str, Any] = {
        "exchange": "binance", "symbol": "BTC/USDT", "time": opens_us, "received_at": opens_us, "timeframe": timeframe,
        "open": "64000.10", "high": "64001", "low": "63999.5", "close": "64000.2", "volume": "12.50000000",
    }  # fmt: skip
    return Candle(**{**values, **changes})


def refused(state_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state_dir / FILE_NAME).read_text().splitlines()]


async def test_each_measurement_as_it_is_read_back(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database()
    opens_us = NOW_US - NOW_US % MINUTE_US
    records: list[Record] = [
        candle(opens_us),
        trade(17, kind="rpi", in_candles=False),
        tick(5, bid_price=None, bid_volume=None),
        book(1),
        candle(opens_us, "1h"),
    ]
    async with influx_rig(tmp_path, bucket.config(trades=True, ticks=True)) as rig:
        await rig.journal.append(records)
        await rig.until(lambda: rig.cursor.pending_records == 0)
        assert rig.terms() == {"stored": 3, "left_out": 2}
        assert rig.sink.status().problem is None
    market = {"exchange": "binance", "symbol": "BTC-USDT"}
    (stored,) = bucket.query('SELECT * FROM "candle" GROUP BY *')
    assert stored == market | {
        "time": (opens_us + MINUTE_US) * 1000,
        "open": 64000.1, "high": 64001, "low": 63999.5, "close": 64000.2, "volume": 12.5,
    }  # fmt: skip
    (stored,) = bucket.query('SELECT * FROM "trade" GROUP BY *')
    assert stored == market | {
        "side": "buy", "time": (NOW_US + 17) * 1000 + 17, "price": 64000.1, "quantity": 0.001,
        "trade_id": "17", "kind": "rpi", "in_candles": False,
    }  # fmt: skip
    (stored,) = bucket.query('SELECT * FROM "tick" GROUP BY *')
    assert stored == market | {
        "time": (NOW_US + 5) * 1000 + (NOW_US + 5_005) % 1000,
        "ask_price": 64000.2,
        "ask_volume": 0,
    }


async def test_numbers_and_texts_of_every_form_are_the_nearest_that_a_float_can_be(
    influx1: Influx1, tmp_path: Path
) -> None:
    bucket = influx1.database()
    forms = ["1", "1.", ".5", "007", "1e-7", "2E5", "3e+12", "0.1", "12345678901234567890.123456789", "1" + "0" * 59]
    forms += ["0." + "0" * 58 + "1", "9007199254740993", "1e-99", "0.000000000000000000001"]
    ids = [f'a, b = "c" \\ {number} é' for number in range(len(forms))]
    records: list[Record] = [
        trade(number, price=price, trade_id=trade_id, symbol='W,e=i "r\\d/USDT')
        for number, (price, trade_id) in enumerate(zip(forms, ids, strict=True))
    ]
    async with influx_rig(tmp_path, bucket.config(trades=True, symbol_style="unified")) as rig:
        await rig.journal.append(records)
    rows = bucket.query('SELECT "price", "trade_id" FROM "trade" GROUP BY *')
    assert [float(row["price"]) for row in rows] == [float(Decimal(price)) for price in forms]
    assert [row["trade_id"] for row in rows] == ids
    assert {row["symbol"] for row in rows} == {'W,e=i "r\\d/USDT'}


async def test_a_thousand_trades_of_one_microsecond_are_a_thousand(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database()
    async with influx_rig(tmp_path, bucket.config(trades=True)) as rig:
        for start in range(0, 1000, 100):
            await rig.journal.append([trade(number, time=NOW_US) for number in range(start, start + 100)])
    assert bucket.values("trade", "trade_id") == [str(number) for number in range(1000)]


@pytest.mark.parametrize("use_gzip", [True, False])
async def test_half_a_batch_that_is_refused(influx1: Influx1, tmp_path: Path, use_gzip: bool) -> None:
    """A field had another type in one week, and half of the records are of that week."""
    bucket = influx1.database()
    other_week_us = NOW_US - 21 * 24 * HOUR_US
    bucket.write(f'trade,symbol=x price="text" {other_week_us}000')
    times = [NOW_US if number % 2 else other_week_us for number in range(200)]
    async with influx_rig(tmp_path, bucket.config(trades=True, gzip=use_gzip)) as rig:
        await rig.journal.append([trade(number, time=time) for number, time in enumerate(times)])
        await rig.until(lambda: rig.cursor.pending_records == 0)
        assert rig.terms() == {"stored": 100, "rejected": 100}
        assert rig.metrics.totals(rig.metrics.rejected, "reason") == {"influx_field_type": 100}
        problem = rig.sink.status().problem
    assert bucket.values("trade", "trade_id") == [str(number) for number in range(1, 200, 2)]
    lines = refused(tmp_path)
    assert sorted(int(line["record"]["trade_id"]) for line in lines) == list(range(0, 200, 2))
    assert all("field type conflict" in line["error"] for line in lines)
    assert problem is not None
    assert "field type conflict" in problem


async def test_what_is_older_than_the_retention_is_put_aside_and_said(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database("DURATION 30d")
    now = now_us()
    old, new = now - 40 * 24 * HOUR_US, now - HOUR_US
    async with influx_rig(tmp_path, bucket.config()) as rig:
        await rig.journal.append([*[candle(old + number * MINUTE_US) for number in range(50)], candle(new)])
        await rig.until(lambda: rig.cursor.pending_records == 0)
        assert rig.terms() == {"stored": 1, "rejected": 50}
    assert {line["reason"] for line in refused(tmp_path)} == {"influx_older_than_retention"}
    assert len(bucket.values("candle", "close")) == 1


async def test_a_measurement_of_another_type_waits_for_a_person(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database()
    bucket.write(f'candle,symbol=x close="text" {NOW_US}000')
    async with influx_rig(tmp_path, bucket.config()) as rig:
        await rig.journal.append([candle(NOW_US + number * MINUTE_US) for number in range(5)])
        await rig.until(lambda: rig.sink.status().attempts_failed >= 1)
        assert "field type conflict" in (rig.sink.status().problem or "")
        assert rig.terms() == {"in_journal": 5}
        bucket.query('DROP MEASUREMENT "candle"')
        await rig.until(lambda: rig.cursor.pending_records == 0)
        assert rig.terms() == {"stored": 5}
    assert not (tmp_path / FILE_NAME).exists()
    assert len(bucket.values("candle", "close")) == 5


async def test_a_limit_of_the_server_puts_nothing_aside(tmp_path: Path) -> None:
    with Influx1('max-values-per-tag = 3\nindex-version = "inmem"') as server:
        bucket = server.database()
        async with influx_rig(tmp_path, bucket.config(trades=True)) as rig:
            await rig.journal.append([trade(number, symbol=f"S{number}/USDT") for number in range(3)])
            await rig.until(lambda: rig.cursor.pending_records == 0)
            await rig.journal.append([trade(number, symbol=f"S{number}/USDT") for number in range(1, 6)])
            await rig.until(lambda: rig.sink.status().attempts_failed >= 1)
            assert "max-values-per-tag" in (rig.sink.status().problem or "")
            assert rig.terms() == {"stored": 3, "in_journal": 5}
        assert not (tmp_path / FILE_NAME).exists()


async def test_a_database_that_does_not_exist_is_named_and_waited_for(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database()
    bucket.query(f'DROP DATABASE "{bucket.name}"')
    async with influx_rig(tmp_path, bucket.config(trades=True)) as rig:
        await rig.journal.append([trade(1)])
        await rig.until(lambda: rig.sink.status().attempts_failed >= 1)
        problem = rig.sink.status().problem or ""
        assert bucket.name in problem
        assert "create it" in problem
        bucket.query(f'CREATE DATABASE "{bucket.name}"')
        await rig.until(lambda: rig.cursor.pending_records == 0)
    assert bucket.values("trade", "trade_id") == ["1"]


async def test_an_outage_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with Influx1(directory=tmp_path / "influxdb") as server:
        bucket = server.database()
        async with influx_rig(tmp_path, bucket.config(trades=True, max_flush_records=50)) as rig:
            for start in range(0, 600, 20):
                await rig.journal.append([trade(number) for number in range(start, start + 20)])
                if start == 200:
                    await asyncio.to_thread(server.stop)  # a kill
                await asyncio.sleep(0)
            await rig.until(lambda: rig.sink.status().attempts_failed >= 2)
            await asyncio.to_thread(server.start)
            await rig.until(lambda: rig.cursor.pending_records == 0)
            assert rig.terms() == {"stored": 600}
        assert bucket.values("trade", "trade_id") == [str(number) for number in range(600)]


async def test_a_server_that_hangs_holds_up_no_stop(tmp_path: Path) -> None:
    with Influx1() as server:
        bucket = server.database()
        config = bucket.config(trades=True, request_timeout_s=60, connect_timeout_s=60)
        rig = InfluxRig(tmp_path, config)
        await rig.until(lambda: rig.sink.status().up)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await rig.journal.append([trade(number) for number in range(10)])
            await asyncio.sleep(0.3)
            async with asyncio.timeout(limit_s(10)):
                await rig.drain()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert rig.terms() == {"in_journal": 10}
        async with influx_rig(tmp_path, config) as again:
            await again.until(lambda: again.cursor.pending_records == 0)
        assert bucket.values("trade", "trade_id") == [str(number) for number in range(10)]


async def test_a_journal_that_is_sent_again_changes_nothing(influx1: Influx1, tmp_path: Path) -> None:
    """As after a crash of the host that took the cursor's file back."""
    bucket = influx1.database()
    config = bucket.config(trades=True, ticks=True)
    first = InfluxRig(tmp_path, config)
    first.journal.cursor("slow")
    opens_us = NOW_US - NOW_US % MINUTE_US
    for number in range(40):
        update = candle(opens_us + number // 4 * MINUTE_US, close=str(100 + number))
        await first.journal.append([trade(number), tick(number), update])
    await first.drain()
    before = [bucket.query(f'SELECT * FROM "{name}" GROUP BY *') for name in ("trade", "tick", "candle")]
    (tmp_path / "influx.cursor").unlink()
    again = InfluxRig(tmp_path, config)
    await again.drain()
    assert again.terms()["recovered"] == 120
    assert [bucket.query(f'SELECT * FROM "{name}" GROUP BY *') for name in ("trade", "tick", "candle")] == before
    assert [row["close"] for row in before[2]] == [103 + 4 * minute for minute in range(10)]


async def test_users_and_retention_policies(tmp_path: Path) -> None:
    """A server with users refuses us until the password is right; a policy that is not the default is named."""
    (tmp_path / "password").write_text("wrong-guess-1\n")
    with Influx1(with_users=True) as server:
        bucket = server.database_with_user("ingestd", "hunter22-and-more")
        values = {"username": "ingestd", "password_file": tmp_path / "password", "bucket": f"{bucket.name}/short"}
        async with influx_rig(tmp_path / "state", bucket.config(trades=True, **values)) as rig:
            await rig.journal.append([trade(1)])
            await rig.until(lambda: rig.sink.status().attempts_failed >= 1)
            problem = rig.sink.status().problem or ""
            assert "HTTP 401" in problem
            assert "influx.password_file" in problem
            assert "wrong-guess-1" not in problem
            (tmp_path / "password").write_text("hunter22-and-more\n")
            await rig.until(lambda: rig.cursor.pending_records == 0)
        assert [row["trade_id"] for row in bucket.query('SELECT "trade_id" FROM "short"."trade"')] == ["1"]
        assert bucket.query('SELECT "trade_id" FROM "trade"') == []
