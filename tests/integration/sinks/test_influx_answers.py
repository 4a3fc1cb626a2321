"""What the sink sends over HTTP, and how it takes each answer; the server is a double that answers as it is told."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ingestd.errors import ConnectionLost, InfluxError, PointsRefused, Reaction, reaction_to
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.sinks.influx.server import InfluxServer, settled
from tests.support.time_limits import limit_s

LINES = b"".join(b"trade price=%d %d\n" % (number, number) for number in range(200))
PARTIAL = '{"error":"partial write: field type conflict: input field \\"price\\" on measurement \\"trade\\" dropped=7"}'


class Answering:
    """Answers every request in the same way, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.text, self.headers = 204, "", dict[str, str]()
        self.waits_s = 0.0
        self.requests: list[tuple[web.BaseRequest, bytes]] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request, await request.read()))
        await asyncio.sleep(self.waits_s)
        return web.Response(status=self.status, text=self.text or None, headers=self.headers)

    @asynccontextmanager
    async def written_to(self, **options: Any) -> AsyncIterator[InfluxServer]:
        """A connection to it."""
        server = await InfluxServer.connect(InfluxConfig.model_validate({"url": self.url, **options}))
        try:
            yield server
        finally:
            await server.close()


@pytest.fixture
async def answering() -> AsyncIterator[Answering]:
    made = Answering()
    runner = web.ServerRunner(web.Server(made.handle, auto_decompress=False), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    ((host, port),) = runner.addresses
    made.url = f"http://{host}:{port}"
    yield made
    await runner.cleanup()


@pytest.fixture(autouse=True)
def _nothing_hidden_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.config.secrets.hidden", {})


async def test_the_request_of_influxdb_1(answering: Answering, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a:pass wörd\n")
    options = {"bucket": "trading/month", "username": "me", "password_file": tmp_path / "password"}
    async with answering.written_to(**options) as server:
        await server.write(LINES)
    (_, probe), (request, body) = answering.requests
    assert probe == b""
    assert (request.method, request.path) == ("POST", "/write")
    assert dict(request.query) == {"db": "trading", "rp": "month", "precision": "ns"}
    assert request.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == LINES
    kind, _, pair = request.headers["Authorization"].partition(" ")
    assert (kind, base64.b64decode(pair).decode()) == ("Basic", "me:a:pass wörd")


async def test_the_request_of_influxdb_2(answering: Answering, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken-of-mine==\n")
    async with answering.written_to(org="desk & co", token_file=tmp_path / "token", gzip=False) as server:
        await server.write(LINES)
    request, body = answering.requests[-1]
    assert request.path == "/api/v2/write"
    assert dict(request.query) == {"org": "desk & co", "bucket": "trading", "precision": "ns"}
    assert request.headers["Authorization"] == "Token t0ken-of-mine=="
    assert "Content-Encoding" not in request.headers
    assert body == LINES


async def test_a_partial_write_says_how_many_and_why(answering: Answering) -> None:
    async with answering.written_to() as server:
        answering.status, answering.text = 400, PARTIAL
        with pytest.raises(PointsRefused) as caught:
            await server.write(LINES)
    assert caught.value.dropped == 7
    assert caught.value.said.startswith("partial write: field type conflict")


@pytest.mark.parametrize(
    ("status", "text", "reaction", "says"),
    [
        (401, '{"error":"authorization failed"}', Reaction.PAUSE, "influx.password_file"),
        (403, '{"error":"not authorized to write"}', Reaction.PAUSE, "grant"),
        (404, '{"error":"database not found: \\"trading\\""}', Reaction.PAUSE, "create it"),
        (404, '{"code":"not found","message":"bucket \\"trading\\" not found"}', Reaction.PAUSE, "create it"),
        (400, '{"error":"database is required"}', Reaction.PAUSE, "database is required"),
        (
            400,
            '{"error":"partial write: max-values-per-tag limit exceeded (3/3): dropped=1"}',
            Reaction.PAUSE,
            "max-values",
        ),
        (
            415,
            '{"code":"not supported","message":"gzip encoding is not supported"}',
            Reaction.PAUSE,
            "influx.gzip = false",
        ),
        (302, "", Reaction.PAUSE, "HTTP 302"),
        (500, '{"error":"timeout"}', Reaction.RETRY, "timeout"),
        (503, "<html>busy</html>", Reaction.RETRY, "busy"),
    ],
)
async def test_any_other_answer_says_what_to_do(
    answering: Answering, status: int, text: str, reaction: Reaction, says: str
) -> None:
    async with answering.written_to() as server:
        answering.status, answering.text = status, text
        answering.headers = {"Location": "http://127.0.0.1:1/elsewhere"} if status == 302 else {}
        with pytest.raises(InfluxError, match=says) as caught:
            await server.write(LINES)
    assert not isinstance(caught.value, PointsRefused)
    assert reaction_to(caught.value) is reaction
    assert answering.url in str(caught.value)


async def test_a_server_that_asks_for_a_wait(answering: Answering) -> None:
    async with answering.written_to() as server:
        answering.status, answering.headers = 429, {"Retry-After": "17"}
        with pytest.raises(InfluxError) as caught:
            await server.write(LINES)
    assert caught.value.retry_after_s == 17
    assert reaction_to(caught.value) is Reaction.RETRY


async def test_a_long_answer_is_not_read_to_its_end(answering: Answering) -> None:
    async with answering.written_to() as server:
        answering.status, answering.text = 500, "x" * 10_000_000
        with pytest.raises(InfluxError) as caught:
            await server.write(LINES)
    assert len(str(caught.value)) < 1000


async def test_an_answer_that_does_not_come_is_not_waited_for(answering: Answering) -> None:
    async with answering.written_to(request_timeout_s=0.2) as server:
        answering.waits_s = 30
        async with asyncio.timeout(limit_s(5)):
            with pytest.raises(ConnectionLost, match=r"not answered for 0\.2 s"):
                await server.write(LINES)
        answering.waits_s = 0


async def test_nobody_listens(answering: Answering) -> None:
    with pytest.raises(ConnectionLost, match="does not answer"):
        await InfluxServer.connect(InfluxConfig(url="http://127.0.0.1:1"))
    await settled()


async def test_a_server_that_wants_points_is_reached_all_the_same(answering: Answering) -> None:
    """InfluxDB 2 refuses an empty request for being empty, and has found the bucket before that."""
    answering.status, answering.text = 400, '{"code":"invalid","message":"writing requires points"}'
    async with answering.written_to():
        assert len(answering.requests) == 1
    answering.text = '{"error":"database is required"}'
    with pytest.raises(InfluxError, match="database is required"):
        async with answering.written_to():
            pass
