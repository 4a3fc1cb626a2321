"""The HTTP and websocket server: one port for every host of a venue, and the control endpoints under `/_sim`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, Self, TypeVar

from aiohttp import WSMsgType, web

from ingestd.lab.sim.faults import Fault, FaultError, Scheduled, parse_fault
from ingestd.lab.sim.hub import Connection, Hub
from ingestd.lab.sim.source import Source
from ingestd.lab.sim.venues.base import RestCall, compact

_STOP_TIMEOUT_S = 10.0
_DROP_GRACE_S = 0.25
_LINES_PER_WRITE = 200  # making so many takes a few milliseconds; longer would disturb the pace of the emission
_MALFORMED = (b'{"e":"trade","E":1790000000', b"\x7f\x01garbage{{", b'{"stream":', b"[1,2", b"}{")


S = TypeVar("S", bound=Source)


class LocalVenue(Generic[S]):
    """Serves a source on one port of this machine: `async with replay_venue(path) as venue: venue.url_map`."""

    def __init__(self, source: S, *, port: int = 0, schedule: Sequence[Scheduled] = ()) -> None:
        """`port` 0: any free port. `schedule`: faults to apply, by the seconds since the emission began."""
        self.source = source
        self.ledger = source.ledger
        self.exchange = source.venue.exchange
        self.symbols = source.symbols
        self.port = port
        self.requests = 0
        self.malformed = 0  # frames
        self.hub = Hub(self.ledger, source.venue.wrap)
        self.ledger.symbol_of = {market_id: symbol for symbol, market_id in self.symbols.items()}
        self._schedule = sorted(schedule, key=lambda item: item.after_s)
        self._refusals: list[Fault] = []  # one for each REST request that is still to be refused
        self._refused = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._mute: set[str] = set()  # streams that are no longer sent to anyone
        self._reopen: dict[Connection, asyncio.TimerHandle] = {}

    @property
    def control(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_map(self) -> dict[str, str]:
        """The local URL prefix for each real URL prefix."""
        return {
            prefix: f"{'ws' if prefix.startswith('ws') else 'http'}://127.0.0.1:{self.port}{host.path}"
            for host in self.source.venue.hosts
            for prefix in host.prefixes
        }

    async def __aenter__(self) -> Self:
        """Listen, and start the source's task, which sends nothing until the source's switch is on."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/_sim/ledger", self._get_ledger),
                web.get("/_sim/ledger/{what:trades|ticks}", self._get_lines),
                web.get("/_sim/adaptations", self._get_adaptations),
                web.get("/_sim/markets", self._get_markets),
                web.post("/_sim/start", self._post_start),
                web.post("/_sim/stop", self._post_stop),
                web.post("/_sim/faults", self._post_fault),
                *(web.get(host.path + "{tail:.*}", self._serve) for host in self.source.venue.hosts),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self._tasks.append(asyncio.create_task(self.source.run(self.hub), name="sim-emission"))
        if self._schedule:
            self._tasks.append(asyncio.create_task(self._run_schedule(), name="sim-faults"))
        return self

    def ready_line(self) -> str:
        """The JSON line that the process prints when it is ready."""
        names = {"control": self.control, "exchange": self.exchange, "symbols": list(self.symbols)}
        return compact({"url_map": self.url_map, **names})

    def when_failed(self, call: Callable[[], object]) -> None:
        """Call this when a task of the server fails. Leaving the context raises the error."""
        for task in self._tasks:
            task.add_done_callback(lambda ended: call() if not ended.cancelled() and ended.exception() else None)

    async def __aexit__(self, *_: object) -> None:
        """Stop emitting, cut every socket, stop listening."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in self._reopen.values():
            timer.cancel()
        for connection in list(self.hub.connections):
            connection.transport.abort()
        if self._runner is not None:
            await self._runner.cleanup()
        self.ledger.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def stop(self) -> bool:
        """Stop the emission. False if it did not stop, or the sockets did not send everything, in time."""
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self.source.switch.stop()
        except TimeoutError:
            return False
        return await self.hub.sent_all(_STOP_TIMEOUT_S)

    # sockets

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        host = next(host.path for host in self.source.venue.hosts if request.path.startswith(host.path))
        path = request.path[len(host) :].lstrip("/")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._serve_socket(request, host, path)
        return self._serve_rest(request, host, path)

    async def _serve_socket(self, request: web.Request, host: str, path: str) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        handshake = self.source.venue.handshake(path, request.query)
        connection = Connection(transport, request.writer, host, combined=handshake.combined)
        self._release_frozen(host)
        self.hub.add(connection)
        try:
            for text in handshake.greeting:
                self.hub.put(connection, text.encode())
            self._subscribe(connection, handshake.streams)
            await self.hub.flush()
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._answer(connection, message.data)
                    await self.hub.flush()
        finally:
            self.hub.remove(connection)
        return socket

    def _answer(self, connection: Connection, text: str) -> None:
        try:
            request = self.source.venue.request(text)
        except (ValueError, KeyError, TypeError):
            self.hub.put(connection, b'{"error":{"code":2,"msg":"Invalid request"}}')
            return
        for reply in request.replies:
            self.hub.put(connection, reply.encode())
        self._subscribe(connection, request.subscribe)
        for asked in request.unsubscribe:
            stream = self.source.resolve(asked, connection.host)
            if stream is not None:
                self.hub.unsubscribe(connection, stream.name)

    def _subscribe(self, connection: Connection, names: Sequence[str]) -> None:
        for asked in names:
            stream = self.source.resolve(asked, connection.host)
            if stream is None or stream.name in self._mute:
                continue
            if connection.deaf.get(stream.name, 0) > 0:
                connection.deaf[stream.name] -= 1
                continue
            self.source.subscribed(connection, stream)
            for frame in self.source.opening_frames(stream):
                self.hub.put(connection, frame.encode())
                self.ledger.record(stream, frame.encode(), 1)
            self.hub.subscribe(connection, stream, asked)
        if names:
            self.source.switch.subscribed()

    # REST

    def _serve_rest(self, request: web.Request, host: str, path: str) -> web.Response:
        self.requests += 1
        if self._refusals:
            refusal = self._refusals.pop()
            self._refused += 1
            return web.json_response(
                {"code": -1003, "msg": "Too many requests; the simulator was told to say so."},
                status=refusal.status,
                headers={"Retry-After": str(refusal.retry_after_s)},
            )
        answer = self.source.rest(RestCall(host, path, request.query))
        if answer is None:
            self.source.adapted("unavailable", f"GET {host}/{path}", "404")
            return web.json_response({"code": -1, "msg": f"not simulated: {path}"}, status=404)
        if answer.adapted is not None:
            self.source.adapted("rest", f"GET {host}/{path}", answer.adapted)
        return web.Response(text=answer.body, content_type="application/json", status=answer.status)

    # faults

    async def _run_schedule(self) -> None:
        await self.source.switch.until_on()
        elapsed_s = 0.0
        for item in self._schedule:
            await asyncio.sleep(item.after_s - elapsed_s)
            elapsed_s = item.after_s
            await self.apply(item.fault)

    async def apply(self, fault: Fault) -> dict[str, object]:
        """Apply a fault now. Returns its kind and the number of things it touched: connections, streams or requests.

        Raises FaultError if it cannot be applied.
        """
        market_id = self._market_id(fault.symbol)
        concerned = [c for c in self.hub.connections if market_id is None or c.carries(market_id)]
        match fault.kind:
            case "rate_limit":
                self._refusals = [fault] * fault.n
                touched = fault.n
            case "drop":
                touched = await self._drop(concerned)
            case "half_open":
                touched = self._freeze(concerned, fault.seconds)
            case "unsubscribe":
                touched = self._unsubscribe(concerned, market_id, fault)
            case "malformed":
                touched = await self._send_malformed(concerned, fault.n)
            case _:
                touched = await self._misbehave(fault, market_id)
        return {"kind": fault.kind, "touched": touched}

    async def _misbehave(self, fault: Fault, market_id: str | None) -> int:
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S), self.source.switch.turn:
                return await self.source.misbehave(fault, market_id, self.hub)
        except TimeoutError:
            raise FaultError(f"{fault.kind}: a client has not read for {_STOP_TIMEOUT_S} s") from None

    def _market_id(self, symbol: str | None) -> str | None:
        if symbol is None:
            return None
        market_id = self.symbols.get(symbol, symbol)
        if market_id not in self.symbols.values():
            raise FaultError(f"no such symbol: {symbol}")
        return market_id

    async def _drop(self, connections: Sequence[Connection]) -> int:
        """Cut connections without a closing handshake, after a moment in which frames already sent can leave."""
        for connection in connections:
            if not connection.frozen:
                await connection.sent_all(_DROP_GRACE_S)
            self.hub.remove(connection)
            connection.transport.abort()
        return len(connections)

    def _freeze(self, connections: Sequence[Connection], seconds: float | None) -> int:
        loop = asyncio.get_running_loop()
        for connection in connections:
            connection.frozen = True
            connection.frozen_until_reconnect = seconds is None
            connection.transport.pause_reading()
            if seconds is not None:
                self._reopen[connection] = loop.call_later(seconds, self._thaw, connection)
        return len(connections)

    def _thaw(self, connection: Connection) -> None:
        self._reopen.pop(connection, None)
        connection.frozen = False
        if connection.is_open:
            connection.transport.resume_reading()

    def _release_frozen(self, host: str) -> None:
        """Close the sockets of this host that were frozen until a client reconnects."""
        for connection in list(self.hub.connections):
            if connection.frozen_until_reconnect and connection.host == host:
                self.hub.remove(connection)
                connection.transport.abort()

    def _unsubscribe(self, connections: Sequence[Connection], market_id: str | None, fault: Fault) -> int:
        touched = 0
        for connection in connections:
            for stream, _ in list(connection.streams.values()):
                if market_id in (None, stream.market_id) and fault.channel in (None, stream.channel):
                    self.hub.unsubscribe(connection, stream.name)
                    connection.deaf[stream.name] = max(fault.deaf, 0)
                    if fault.deaf < 0:
                        self._mute.add(stream.name)
                    touched += 1
        return touched

    async def _send_malformed(self, connections: Sequence[Connection], n: int) -> int:
        for connection in connections:
            for index in range(n):
                self.hub.put(connection, _MALFORMED[index % len(_MALFORMED)])
        self.malformed += n * len(connections)
        await self.hub.flush()
        return len(connections)

    # control

    async def _get_ledger(self, _: web.Request) -> web.Response:
        return web.json_response(self.summary())

    def summary(self) -> dict[str, object]:
        """The body of `GET /_sim/ledger`."""
        ledger, symbol_of = self.ledger, self.ledger.symbol_of
        return {
            "sent": dict(ledger.sent),
            "distinct_trades": ledger.distinct_trades,
            "withheld_trades": ledger.withheld_trades,
            "uncertain_trades": ledger.uncertain_trades(),
            "malformed": self.malformed,
            "by_symbol": {symbol_of.get(market, market): dict(counts) for market, counts in ledger.by_market.items()},
            "last_trade_ids": {symbol_of.get(market, market): last for market, last in ledger.last_trade_ids.items()},
            "emitting": self.source.switch.is_on and not self.source.finished,
            "finished": self.source.finished,
            "connections": len(self.hub.connections),
            "subscriptions": self.hub.subscriptions,
            "streams": self.hub.streams,
            "rest_requests": self.requests,
            "rest_refused": self._refused,
            **self.source.describe(),
        }

    async def _get_lines(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["what"] == "trades":
            lines = self.ledger.trade_lines(withheld="withheld" in request.query)
        else:
            lines = self.ledger.tick_lines()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while chunk := b"".join(islice(lines, _LINES_PER_WRITE)):
            await response.write(chunk)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    async def _get_markets(self, _: web.Request) -> web.Response:
        """Answer with the market id of each unified symbol.

        The ready line does not have these ids: `readline` of asyncio, which reads it, takes at most 64 KiB by default.
        """
        # In the simulator `.P` marks the id of a perpetual, because at Binance it is also the id of the spot pair.
        return web.json_response({symbol: market_id.removesuffix(".P") for symbol, market_id in self.symbols.items()})

    async def _get_adaptations(self, _: web.Request) -> web.Response:
        return web.json_response(self.source.adaptations())

    async def _post_start(self, _: web.Request) -> web.Response:
        self.source.switch.start()
        return web.json_response({"emitting": not self.source.finished})

    async def _post_stop(self, _: web.Request) -> web.Response:
        return web.json_response({"emitting": False, "drained": await self.stop()})

    async def _post_fault(self, request: web.Request) -> web.Response:
        try:
            return web.json_response(await self.apply(parse_fault(await request.read())))
        except FaultError as error:
            return web.json_response({"error": str(error)}, status=400)
