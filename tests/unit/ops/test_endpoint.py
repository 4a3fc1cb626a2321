"""The HTTP endpoint over real sockets: what it answers, and that nobody can slow it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from ingestd.config.models import HttpConfig
from ingestd.errors import ConfigError
from ingestd.ops import endpoint as endpoint_module
from ingestd.ops.endpoint import MAX_CONNECTIONS, Endpoint
from ingestd.ops.health import JournalHealth, Snapshot
from ingestd.ops.hosts import Hosts
from ingestd.ops.metrics import Metrics
from tests.support.time_limits import limit_s

LARGE = bytes(50_000_000)  # more than the kernel's socket buffers hold
ANY_PORT = HttpConfig(listen="127.0.0.1:0")


class Daemon:
    """What the endpoint sees of one."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.state = Snapshot(now_us=0, started=True, journal=JournalHealth())
        self.endpoint = Endpoint(ANY_PORT, self.metrics, lambda: self.state)

    def rejected(self, reason: str) -> int:
        return self.metrics.totals(self.metrics.http_rejected, by="reason").get(reason, 0)

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.endpoint.port}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url) as response:
            return response.status, await response.text()

    async def dial(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.endpoint.port)
        writer.write(sent)
        return reader, writer


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    daemon = Daemon()
    await daemon.endpoint.start()
    yield daemon
    await daemon.endpoint.close()


async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """All that came until the other side closed."""
    async with asyncio.timeout(60):
        received = await reader.read()
    writer.close()
    return received


async def test_probes_say_ok(daemon: Daemon) -> None:
    for path in ("/livez", "/readyz"):
        status, body = await daemon.ask(path)
        assert (status, json.loads(body)) == (200, {"status": "ok", "reasons": [], "degraded": []})


async def test_readiness_says_why_not(daemon: Daemon) -> None:
    daemon.state = Snapshot(now_us=0, started=False)
    status, body = await daemon.ask("/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == ["The daemon has not finished starting."]
    assert (await daemon.ask("/livez"))[0] == 200


async def test_liveness_says_why_not(daemon: Daemon) -> None:
    daemon.state = Snapshot(now_us=0, started=True, dead_tasks=("journal",))
    assert (await daemon.ask("/livez"))[0] == 503


async def test_metrics_are_shown(daemon: Daemon) -> None:
    daemon.metrics.received.labels("kraken", "trades").inc(3)
    status, body = await daemon.ask("/metrics")
    assert status == 200
    assert 'ingestd_records_received_total{channel="trades",exchange="kraken"} 3.0' in body


async def test_a_flood_of_scrapes_costs_one_rendering(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    renderings = 0
    render = daemon.metrics.render

    def counted() -> bytes:
        nonlocal renderings
        renderings += 1
        return render()

    monkeypatch.setattr(daemon.metrics, "render", counted)
    answers = await asyncio.gather(*(daemon.ask("/metrics") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert renderings == 1


async def test_the_index_links_and_escapes(daemon: Daemon) -> None:
    daemon.state = Snapshot(now_us=0, started=True, dead_tasks=("<script>",))
    _, body = await daemon.ask("/")
    assert 'href="/readyz"' in body
    assert "not ready" in body
    assert "<script>" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(daemon: Daemon, method: str) -> None:
    assert (await daemon.ask("/metrics", method))[0] == 405


async def test_head_is_answered_without_a_body(daemon: Daemon) -> None:
    assert await daemon.ask("/livez", "HEAD") == (200, "")


@pytest.mark.parametrize("path", ["/livez", "/nothing-here"])
async def test_a_connection_carries_one_request(daemon: Daemon, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    answer = await ended(*await daemon.dial(request + request))
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_taken_address_is_explained(daemon: Daemon) -> None:
    taken = HttpConfig(listen=f"127.0.0.1:{daemon.endpoint.port}")
    with pytest.raises(ConfigError, match=r"http\.listen: the address is already in use"):
        await Endpoint(taken, Metrics(), lambda: daemon.state).start()


@pytest.mark.parametrize("listen", ["192.0.2.1:9108", "no-such-host.invalid:9108"])
async def test_an_impossible_address_is_explained(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.listen: cannot listen"):
        await Endpoint(HttpConfig(listen=listen), Metrics(), lambda: Snapshot(0, True)).start()


async def test_a_slow_request_is_cut_off(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "REQUEST_TIMEOUT_S", 0.2)
    reader, writer = await daemon.dial(b"GET /livez HTTP/1.1\r\nX-A: ")

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(b"a")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    # Not to the end: what is dripped onto a closed connection resets it.
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await dripping
    assert daemon.rejected("slow_request") == 1


async def test_a_slow_reader_is_cut_off(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "RESPONSE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(daemon.metrics, "render", lambda: LARGE)
    reader, writer = await daemon.dial(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.5)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(len(LARGE)), 60)
    writer.close()
    assert daemon.rejected("slow_reader") == 1


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nX: " + b"a" * 9000, b"GET /" + b"a" * 9000, b"a" * 1_000_000])
async def test_a_large_request_is_refused(daemon: Daemon, sent: bytes) -> None:
    reader, writer = await daemon.dial(sent)
    try:
        answer = await ended(reader, writer)
    except ConnectionResetError:  # it closed while we were still sending
        answer = b"HTTP/1.1 431 "
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert daemon.rejected("too_large") == 1


@pytest.mark.parametrize("sent", [b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_garbage_is_refused(daemon: Daemon, sent: bytes) -> None:
    assert b" 400 Bad Request\r\n" in await ended(*await daemon.dial(sent))
    assert (await daemon.ask("/livez"))[0] == 200


async def test_idle_connections_make_room(daemon: Daemon) -> None:
    idle = [await daemon.dial() for _ in range(200)]
    async with asyncio.timeout(limit_s(2)):
        assert (await daemon.ask("/livez"))[0] == 200
    assert daemon.rejected("evicted") == 200 + 1 - MAX_CONNECTIONS
    for _, writer in idle:
        writer.close()


async def test_busy_connections_do_not(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(daemon.metrics, "render", lambda: LARGE)
    busy = [await daemon.dial(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
    for reader, _ in busy:
        await reader.read(1)
    assert (await ended(*await daemon.dial())).startswith(b"HTTP/1.1 503 ")
    assert daemon.rejected("too_many_connections") == 1
    for _, writer in busy:
        writer.transport.abort()


async def test_closing_does_not_wait_for_idle_connections() -> None:
    daemon = Daemon()
    await daemon.endpoint.start()
    reader, writer = await daemon.dial()
    await daemon.ask("/livez")
    async with asyncio.timeout(limit_s(0.5)):
        await daemon.endpoint.close()
        assert await reader.read() == b""
    writer.close()


async def test_closing_before_starting_is_nothing() -> None:
    await Daemon().endpoint.close()


def request(*hosts: str, target: str = "/livez", version: str = "1.1") -> bytes:
    named = "".join(f"Host: {host}\r\n" for host in hosts)
    return f"GET {target} HTTP/{version}\r\n{named}\r\n".encode()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:9108", "10.42.0.17:9108", "[::1]", "[::1]:9108", "[fe80::1%25eth0]:9108", "::1"),
        *("localhost", "localhost:9108", "LOCALHOST:9108", "localhost.", "localhost.:9108", "a.localhost:1"),
        # Prometheus asks by the name of a service, of Compose or Kubernetes, and of a host in one's own network.
        *("ingestd:9108", "my_stack_ingestd-1", "ingestd.monitoring.svc:9108", "ingestd.ns.svc.cluster.local:9108"),
        *("db1.local", "db1.prod.internal:9108", socket.gethostname(), f"{socket.gethostname().upper()}.:80"),
        "",
    ],
)
async def test_it_is_asked_by_its_own_names(daemon: Daemon, host: str) -> None:
    assert (await ended(*await daemon.dial(request(host)))).startswith(b"HTTP/1.1 200 ")
    assert daemon.rejected("host") == 0


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:9108", "EVIL.Example.", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("evil.example.", "local.evil.example:80", "x@localhost", "localhost:9108@evil.example", "localhost evil"),
        *("localhost:port", "localhost:999999", "[fade.cafe]", "0x7f.1", "ev\u0131l.local", "localhost, evil.example"),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/livez", "/nothing-here"])
async def test_a_strangers_name_is_refused(daemon: Daemon, host: str, path: str) -> None:
    """A page whose own name was pointed here (DNS rebinding) reads nothing."""
    answer = await ended(*await daemon.dial(request(host, target=path)))
    assert answer[:13] in {b"HTTP/1.1 421 ", b"HTTP/1.1 400 "}
    assert b"ingestd_" not in answer
    assert daemon.rejected("host") + daemon.rejected("malformed") == 1


async def test_an_absolute_target_names_the_host_too(daemon: Daemon) -> None:
    taken = await ended(*await daemon.dial(request("localhost", target="http://localhost:9108/livez")))
    assert taken.startswith(b"HTTP/1.1 200 ")
    refused = await ended(*await daemon.dial(request("localhost", target="http://evil.example/livez")))
    assert refused.startswith(b"HTTP/1.1 421 ")


async def test_one_host_is_named_and_in_http_1_0_perhaps_none(daemon: Daemon) -> None:
    """RFC 9112, section 3.2."""
    for hosts, version, status in (
        ((), "1.0", b"200"),
        (("localhost",), "1.0", b"200"),
        (("evil.example",), "1.0", b"421"),
        ((), "1.1", b"400"),
        (("localhost", "localhost"), "1.1", b"400"),
        (("localhost", "evil.example"), "1.0", b"400"),
    ):
        answer = await ended(*await daemon.dial(request(*hosts, version=version)))
        assert answer.split(b" ")[1] == status, (hosts, version, answer)


async def test_a_configured_name_is_taken() -> None:
    daemon = Daemon()
    config = HttpConfig(listen="localhost:0", allowed_hosts=["Metrics.Example.com"])
    daemon.endpoint = Endpoint(config, daemon.metrics, lambda: daemon.state)
    await daemon.endpoint.start()
    for host, status in (("metrics.example.com:9108", b"200"), ("x.metrics.example.com", b"421")):
        assert (await ended(*await daemon.dial(request(host)))).split(b" ")[1] == status
    await daemon.endpoint.close()


def test_the_domains_this_machine_searches_are_its_own(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("# by hand\nnameserver 127.0.0.53\nsearch Example.com prod.example.net\noptions edns0\n")
    hosts, short = Hosts([], resolver), socket.gethostname().partition(".")[0]
    for name, ours in ((f"{short}.example.com", True), (f"{short}.prod.example.net:9", True), ("x.example.com", False)):
        assert hosts.accepts([name], "/", needs_host_header=True) is ours


TLS_HELLO = bytes.fromhex("16030100a5010000a10303") + bytes(range(160))


@pytest.mark.parametrize(
    "sent",
    [
        *(
            TLS_HELLO,
            b"\x00\xff\r\n\r\n",
            b"\r\n\r\n\r\n\xffGET",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-x\r\n",
        ),
        *(
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\n: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        ),
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"*3\r\n$3\r\nSET\r\n",
    ],
)
async def test_what_is_no_request_is_counted_and_not_logged(
    daemon: Daemon, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await daemon.dial(sent)
    await writer.drain()
    writer.write_eof()
    await ended(reader, writer)
    assert sum(daemon.metrics.totals(daemon.metrics.http_rejected, by="reason").values()) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_a_body_that_is_no_body_is_not_logged(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /metrics HTTP/1.1\r\nHost: x\r\n"
    for body in (
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"Content-Length: 9\r\nContent-Encoding: gzip\r\n\r\nnot gzip!",
    ):
        assert (await ended(*await daemon.dial(head + body))).split(b" ")[1] in {b"400", b"405"}
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_a_mistake_of_ours_is_logged(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(daemon.metrics, "render", broken)
    assert (await daemon.ask("/metrics"))[0] == 500
    assert "ZeroDivisionError" in caplog.text


async def test_what_a_venue_says_cannot_steer_who_reads_it(daemon: Daemon) -> None:
    evil = "a\x1b[2J\x9b31m\u202eb"
    daemon.state = Snapshot(now_us=0, started=True, dead_tasks=(evil,))
    for path in ("/readyz", "/"):
        _, body = await daemon.ask(path)
        assert all(character.isprintable() or character == "\n" for character in body)
    _, body = await daemon.ask("/readyz")
    assert evil in json.loads(body)["reasons"][0]


async def test_no_secret_is_shown_to_who_may_read_it_without_a_password(daemon: Daemon) -> None:
    address = "http://proxy:s3cret-of-mine@h:1/x?api_key=s3cret-too"
    daemon.state = Snapshot(now_us=0, started=True, dead_tasks=(f"GET {address}",), upkeep_problems=(address,))
    for path in ("/readyz", "/livez", "/"):
        _, body = await daemon.ask(path)
        assert "s3cret" not in body
        assert "http://proxy:***@h:1/x?api_key=***" in body
