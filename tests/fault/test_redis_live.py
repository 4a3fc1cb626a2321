"""Redis frozen, killed, out of memory, or with a subscriber that never reads: nobody waits, memory stays bounded."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import statistics
import time
import tracemalloc
from collections.abc import Callable

import pytest

from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from tests.support.records import tick, trade
from tests.support.redis_servers import Rig, reader, running
from tests.support.time_limits import within

pytestmark = pytest.mark.one_server

Make = Callable[..., EmbeddedValkey]

EVENTS_PER_S = 5000


async def put_for(rig: Rig, seconds: float, first: int = 0) -> tuple[int, list[float], list[float]]:
    """Events at a steady rate: the number of the last, the microseconds each put took, how late the loop was."""
    puts: list[float] = []
    late: list[float] = []
    number = first
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        due_s = time.perf_counter() + 0.01
        for _ in range(EVENTS_PER_S // 100):
            number += 1
            record = trade(number, price=f"{number}") if number % 2 else tick(number, bid_price=f"{number}")
            started_s = time.perf_counter()
            rig.live.put_all([record])
            puts.append((time.perf_counter() - started_s) * 1e6)
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        late.append(time.perf_counter() - due_s)
    return number, puts, late


def pid(server: EmbeddedValkey) -> int:
    assert server.pid is not None
    return server.pid


async def test_frozen_for_three_seconds(make_server: Make) -> None:
    server = make_server()
    async with running(server.url) as rig:
        await rig.up()
        number, before, _ = await put_for(rig, 1)
        gc.collect()
        tracemalloc.start()
        start_bytes = tracemalloc.get_traced_memory()[0]
        os.kill(pid(server), signal.SIGSTOP)
        number, during, late = await put_for(rig, 3, number)
        assert not rig.live.status().up
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - start_bytes
        tracemalloc.stop()
        os.kill(pid(server), signal.SIGCONT)
        with reader(server.url) as client:
            last = {
                "market:tick:BTCUSDT": ("bidPrice", str(number)),
                "price:binance:BTCUSDT": ("price", str(number - 1)),
            }
            took_s = await rig.until(
                lambda: all(client.hget(key, field) == value for key, (field, value) in last.items()), 5
            )
            await asyncio.sleep(1.5)  # what the server had not read before it froze changes nothing any more
            assert all(client.hget(key, field) == value for key, (field, value) in last.items())
        assert within(took_s, 5)
        assert grown < 4 << 20
        # Traced memory makes a put slower, and the machine is shared: an order of magnitude is what is asserted.
        assert statistics.median(during) < 20 + 10 * statistics.median(before)
        assert within(statistics.quantiles(late, n=100)[98], 0.2)
        assert set(rig.dropped()) <= {"down", "unconfirmed"}
        assert sum(rig.published().values()) + sum(rig.dropped().values()) == number


async def test_killed_and_started_again_empty(make_server: Make) -> None:
    server = make_server()
    async with running(server.url) as rig:
        await rig.up()
        for number in range(50):
            rig.live.put_all([tick(number, symbol=f"S{number}/USDT")])
        rig.live.put_all([trade(1)])
        rig.live.order_update("0", {"status": "FILLED"})
        with reader(server.url) as client:
            await rig.until(lambda: client.exists("order:0"))
            await rig.until(lambda: client.exists("market:tick:S49USDT", "candle:binance:BTCUSDT:1m") == 2)
        server.kill()
        await rig.until(lambda: not rig.live.status().up)
        assert str(server.port) in (rig.live.status().problem or "")
        rig.live.put_all([trade(2, price="7")])
        rig.live.order_update("1", {"status": "NEW"})
        await rig.until(lambda: rig.dropped().get("down") == 1)
        server.start()
        with reader(server.url) as client:
            took_s = await rig.until(lambda: len(client.keys("market:tick:*")) == 50)
            assert within(took_s, 5)
            await rig.until(lambda: client.hget("price:binance:BTCUSDT", "price") == "7")
            assert json.loads(client.lindex("candle:binance:BTCUSDT:1m", 0))["tradesCount"] == 2
            assert client.hget("order:1", "status") == "NEW"
            await rig.until(lambda: client.hget("order:0", "status") == "FILLED")
            assert 3500 < client.ttl("order:0") <= 3600
            assert 40 < client.ttl("market:tick:S0USDT") <= 60
        assert rig.live.status().problem is None


async def test_no_order_is_lost_by_a_frozen_server(make_server: Make) -> None:
    server = make_server()
    async with running(server.url) as rig:
        await rig.up()
        os.kill(pid(server), signal.SIGSTOP)
        for number in range(200):
            rig.live.order_update(str(number), {"status": "NEW"})
            await asyncio.sleep(0.01)
        await rig.until(lambda: not rig.live.status().up)
        os.kill(pid(server), signal.SIGCONT)
        with reader(server.url) as client:
            assert await rig.until(lambda: len(client.keys("order:*")) == 200) < 5


async def test_a_flushed_server_has_its_candles_again(make_server: Make) -> None:
    """The server forgets without a word: an LSET fails, and everything is written again."""
    server = make_server()
    async with running(server.url) as rig:
        await rig.up()
        rig.live.put_all([trade(1)])
        with reader(server.url) as client:
            await rig.until(lambda: client.exists("candle:binance:BTCUSDT:1m"))
            client.flushall()
            await asyncio.sleep(1.2)
            client.flushall()
            rig.live.put_all([trade(2)])
            await rig.until(lambda: client.llen("candle:binance:BTCUSDT:1m") == 1)


async def test_out_of_memory_messages_go_on_and_the_caches_come_back(make_server: Make) -> None:
    server = make_server(maxmemory="1", maxmemory_policy="noeviction")
    async with running(server.url) as rig:
        await rig.up()
        rig.live.put_all([trade(1)])
        rig.live.put_all([tick(2)])
        await rig.until(lambda: "maxmemory" in (rig.live.status().problem or ""))
        assert rig.live.status().up
        assert rig.published() == {"trades": 1, "ticks": 1}
        assert rig.metrics.totals(rig.metrics.sink_errors, "class")["OOM"] > 0
        with reader(server.url) as client:
            client.config_set("maxmemory", "0")
            # Nothing new arrives for the symbol: the last values are written again all the same.
            await rig.until(lambda: client.exists("market:tick:BTCUSDT", "candle:binance:BTCUSDT:1m") == 2, 12)
        await rig.until(lambda: rig.live.status().problem is None, 8)


async def test_a_subscriber_that_never_reads_is_cut_and_delays_nobody(make_server: Make) -> None:
    server = make_server(client_output_buffer_limit="pubsub 1mb 512kb 1")
    async with running(server.url) as rig:
        await rig.up()
        with socket.create_connection(("127.0.0.1", server.port)) as deaf, reader(server.url) as client:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(b"PSUBSCRIBE *\r\n")
            await rig.until(lambda: client.pubsub_numpat() == 1)
            number = 0
            while client.pubsub_numpat():
                assert number < 200_000, "the server did not cut it"
                for _ in range(1000):
                    number += 1
                    rig.live.put_all([tick(number)])
                await asyncio.sleep(0.01)
            await rig.until(lambda: sum(rig.published().values()) == number)
        assert rig.dropped() == {}


async def test_a_full_window_drops_and_counts(make_server: Make) -> None:
    server = make_server()
    async with running(server.url, window_commands=100, reply_timeout_s=5) as rig:
        await rig.up()
        os.kill(pid(server), signal.SIGSTOP)
        rig.live.put_all([tick(number) for number in range(5000)])
        await rig.until(lambda: rig.dropped().get("window_full", 0) >= 4900)
        os.kill(pid(server), signal.SIGCONT)
        await rig.until(lambda: sum(rig.published().values()) + sum(rig.dropped().values()) == 5000)
        assert sum(rig.published().values()) == 100
        with reader(server.url) as client:
            await rig.until(lambda: (client.hget("market:tick:BTCUSDT", "timestamp") or "").endswith("04999Z"))


async def test_a_burst_in_one_turn_is_bounded(make_server: Make) -> None:
    server = make_server()
    async with running(server.url, window_commands=1_000_000, window_bytes="1GiB") as rig:
        await rig.up()
        record = tick(1)
        rig.live.put_all([record] * 101_500)
        await rig.until(lambda: sum(rig.published().values()) == 100_000)
        assert rig.dropped() == {"burst": 1500}
