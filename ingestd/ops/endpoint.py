"""The HTTP endpoint: /metrics, /livez, /readyz and an index. Read-only.

It shares the event loop with the feeds, so clients are limited: one request a connection, at most 8 KiB, 5 s to send
it, 30 s to take the reply, 32 connections. A further connection replaces the oldest one that has not sent its request.
"""

from __future__ import annotations

import asyncio
import errno
import html
import time
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Final, cast

import orjson
from aiohttp import HttpVersion11, web

from ingestd import __version__
from ingestd.config.models import HttpConfig
from ingestd.config.secrets import redact
from ingestd.errors import ConfigError, Problem
from ingestd.ops.health import Snapshot, Verdict, liveness, readiness
from ingestd.ops.hosts import Hosts
from ingestd.ops.logs import redact_value
from ingestd.ops.metrics import CONTENT_TYPE, Metrics
from ingestd.printable import printable, printable_json

MAX_CONNECTIONS: Final = 32
MAX_REQUEST_BYTES: Final = 8192
REQUEST_TIMEOUT_S: Final = 5.0
RESPONSE_TIMEOUT_S: Final = 30.0
_METRICS_CACHED_S: Final = 1.0

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
_NOT_OURS = (
    "The request's Host is not a name of this endpoint. Use an address, localhost or the machine's own name, or add "
    "the name to http.allowed_hosts.\n"
)

Answerer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoint:
    """Serves the metrics and the health of one daemon until it is closed."""

    def __init__(self, config: HttpConfig, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> None:
        self._config = config
        self._metrics = metrics
        self._snapshot = snapshot
        self._rendered = b""
        self._rendered_at = float("-inf")
        self._rendering = asyncio.Lock()
        self._gate = _Gate(metrics)
        self._hosts = Hosts([*(config.allowed_hosts or ()), config.host])
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on, also if the configuration says 0. Raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("the endpoint is not started")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises ConfigError if the address cannot be used."""
        app = web.Application(middlewares=[_one_request, self._only_by_our_names])
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/livez", partial(self._judge, liveness))
        app.router.add_get("/readyz", partial(self._judge, readiness))
        self._runner = web.AppRunner(app, handle_signals=False)
        await self._runner.setup()
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None, "setup makes the server"
        try:
            self._server = await loop.create_server(
                lambda: _Connection(_Handler(server, loop, self._gate), self._gate),
                self._config.host,
                self._config.port,
            )
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError([_cannot_listen(self._config.listen, error)]) from error

    async def close(self) -> None:
        """Stop listening and close all connections; a reply under way gets one second."""
        if self._server is not None:
            self._server.close()
            self._gate.close_idle()
        if self._runner is not None:
            assert self._runner.server is not None, "setup makes the server"
            await self._runner.server.shutdown(timeout=1.0)
            await self._runner.cleanup()
        if self._server is not None:
            await self._server.wait_closed()

    @web.middleware
    async def _only_by_our_names(self, request: web.Request, handler: Answerer) -> web.StreamResponse:
        needs_host_header = request.version >= HttpVersion11
        hosts = request.headers.getall("Host", [])
        if self._hosts.accepts(hosts, request.raw_path, needs_host_header=needs_host_header):
            return await handler(request)
        self._gate.reject("host")
        if len(hosts) == 1:
            return web.Response(status=421, text=_NOT_OURS, headers=_HEADERS)
        return web.Response(status=400, text="Give exactly one Host header.\n", headers=_HEADERS)

    async def _index(self, _request: web.Request) -> web.Response:
        return web.Response(text=_page(readiness(self._snapshot())), content_type="text/html", headers=_HEADERS)

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        async with self._rendering:  # many scrapes at once cost one rendering a second
            if time.monotonic() - self._rendered_at >= _METRICS_CACHED_S:
                self._metrics.capture()
                self._rendered = await asyncio.to_thread(self._metrics.render)
                self._rendered_at = time.monotonic()
        return web.Response(body=self._rendered, headers={**_HEADERS, "Content-Type": CONTENT_TYPE})

    async def _judge(self, judge: Callable[[Snapshot], Verdict], _request: web.Request) -> web.Response:
        verdict = judge(self._snapshot())
        shown = orjson.dumps(redact_value(verdict.body()), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        body, status = printable_json(shown.decode()).encode(), 200 if verdict.ok else 503
        return web.Response(body=body, status=status, content_type="application/json", headers=_HEADERS)


class _Gate:
    """The open connections, limited in number."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: dict[_Connection, None] = {}  # in the order they came

    def admit(self, connection: _Connection) -> bool:
        """Admit a connection, if need be in place of the oldest one without a request. False: there is no room."""
        if len(self._open) >= MAX_CONNECTIONS:
            idle = next((known for known in self._open if not known.requested), None)
            if idle is None:
                self.reject("too_many_connections")
                return False
            idle.refuse(b"408 Request Timeout", "evicted")
            self.leave(idle)
        self._open[connection] = None
        return True

    def leave(self, connection: _Connection) -> None:
        self._open.pop(connection, None)

    def reject(self, reason: str) -> None:
        self._metrics.http_rejected.labels(reason).inc()

    def close_idle(self) -> None:
        """Abort every connection that has not sent its request."""
        for connection in [known for known in self._open if not known.requested]:
            connection.abort()


class _Handler(web.RequestHandler):
    """aiohttp's request handler. A malformed request is counted and not logged, since anybody can send one."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, gate: _Gate) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # as AppRunner's own default of no log is written
            lingering_time=0,
            max_line_size=MAX_REQUEST_BYTES,
            max_field_size=MAX_REQUEST_BYTES,
        )
        self._gate = gate

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        self._gate.reject("malformed")
        response = web.Response(status=status, text="This is no HTTP request.\n", headers=_HEADERS)
        response.force_close()
        return response


class _Connection(asyncio.Protocol):
    """Sits between the socket and aiohttp's handler and enforces the limits for which aiohttp has no option."""

    def __init__(self, handler: asyncio.Protocol, gate: _Gate) -> None:
        self._handler = handler
        self._gate = gate
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._bytes = 0
        self._refused = False
        self.requested = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._handler.connection_made(transport)
        if not self._gate.admit(self):
            self.refuse(b"503 Service Unavailable")
            return
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_TIMEOUT_S, self._late)

    def data_received(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._refused:
            return
        if self._bytes > MAX_REQUEST_BYTES:
            self.refuse(b"431 Request Header Fields Too Large", "too_large")
            return
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.leave(self)
        self._cancel_deadline()
        self._handler.connection_lost(exc)

    def request_begins(self) -> None:
        """The request is complete: from now on the time limit is for the reply."""
        self.requested = True
        self._cancel_deadline()
        self._deadline = asyncio.get_running_loop().call_later(RESPONSE_TIMEOUT_S, self._late)

    def refuse(self, status: bytes, reason: str | None = None) -> None:
        """Answer with a bare status and close; only close if a request has begun, whose reply may be under way.
        `reason`: the label under which to count it; None: it is counted already."""
        if reason is not None:
            self._gate.reject(reason)
        self._refused = True
        if self._transport is None or self._transport.is_closing():
            return
        if self.requested:
            self._transport.abort()
            return
        self._transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection without an answer."""
        if self._transport is not None:
            self._transport.abort()

    def _late(self) -> None:
        self._deadline = None
        if self.requested:
            self._gate.reject("slow_reader")
            self.abort()
        else:
            self.refuse(b"408 Request Timeout", "slow_request")

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@web.middleware
async def _one_request(request: web.Request, handler: Answerer) -> web.StreamResponse:
    protocol = request.transport.get_protocol() if request.transport is not None else None
    if isinstance(protocol, _Connection):
        protocol.request_begins()
    try:
        response = await handler(request)
    except web.HTTPException as error:  # aiohttp's 404 and 405 are raised
        error.force_close()
        raise
    response.force_close()
    return response


def _page(verdict: Verdict) -> str:
    state = "ready" if verdict.ok else "not ready"
    lines = [*verdict.reasons, *verdict.degraded] or ["All feeds deliver and every sink stores."]
    items = "".join(f"<li>{html.escape(printable(redact(line)))}</li>" for line in lines)
    links = "".join(f'<li><a href="{path}">{path}</a></li>' for path in ("/readyz", "/livez", "/metrics"))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>ingestd</title>'
        f"<h1>ingestd {__version__}: {state}</h1><ul>{items}</ul><ul>{links}</ul></html>\n"
    )


def _cannot_listen(listen: str, error: OSError) -> Problem:
    if error.errno == errno.EADDRINUSE:
        hint = "another program (or another ingestd) listens there; stop it or choose another port"
        return Problem("http.listen", "the address is already in use", listen, hint)
    hint = "write host:port, such as 127.0.0.1:9108"
    return Problem("http.listen", f"cannot listen: {error.strerror or error}", listen, hint)
