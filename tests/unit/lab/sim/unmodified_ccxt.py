"""An unmodified ccxt.pro exchange whose connections go to the simulator, and small helpers around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import ccxt.pro

Watch = Callable[[], Awaitable[Any]]

_WITHIN_S = 60.0


def mapped(url: str, url_map: dict[str, str]) -> str:
    """The longest real prefix replaced; any other URL is an error here, not a request to the internet."""
    for real in sorted(url_map, key=len, reverse=True):
        if url.startswith(real):
            return url_map[real] + url[len(real) :]
    raise AssertionError(f"not mapped: {url}")


def unmodified_ccxt(name: str, url_map: dict[str, str]) -> Any:
    """A ccxt.pro exchange whose connections, and nothing else, go elsewhere; `client.url` stays the real one."""
    base: Any = getattr(ccxt.pro, name)

    class Mapped(base):  # type: ignore[misc, valid-type, unused-ignore] # ccxt has no types
        async def fetch(self, url: str, *args: Any, **kwargs: Any) -> Any:
            return await super().fetch(mapped(url, url_map), *args, **kwargs)

        def client(self, url: str) -> Any:
            client = super().client(url)
            client.create_connection = lambda session: session.ws_connect(
                mapped(url, url_map), autoping=False, autoclose=False, max_msg_size=10485760
            ).__aenter__()
            return client

    # ccxt signs Coinbase's level2 subscription; the simulator does not look at signatures
    keys = {"apiKey": "key", "secret": "c2VjcmV0", "password": "x"} if name == "coinbaseexchange" else {}
    exchange = Mapped({"newUpdates": True, "enableRateLimit": False, **keys})
    exchange.id = name
    exchange.options["tradesLimit"] = 100_000
    return exchange


@asynccontextmanager
async def watching(exchange: Any) -> AsyncIterator[Callable[[Watch, str], None]]:
    """Keeps watch calls going in tasks of their own until the end of the block."""
    tasks: list[asyncio.Task[None]] = []

    def keep(watch: Watch, name: str) -> None:
        async def loop() -> None:
            while True:
                await watch()

        tasks.append(asyncio.create_task(loop(), name=name))

    try:
        yield keep
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(Exception):
            await exchange.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it, up to a limit that only a hang meets."""
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {_WITHIN_S} s for {what}") from None
