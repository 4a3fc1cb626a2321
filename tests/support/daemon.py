"""The real process, as a user runs it: `ingestd run` with a configuration file, watched over its endpoint."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import tomlkit

from ingestd.lab.sim.child import free_port
from ingestd.ops.account import with_zeros
from tests.support.forked import Forked, forked_ingestd


@dataclass
class Daemon:
    """A running `ingestd run`."""

    process: asyncio.subprocess.Process | Forked
    url: str
    log_file: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body; (0, "") while nothing listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as reply:
                return reply.status, await reply.text()
        except aiohttp.ClientError:
            return 0, ""

    async def received(self) -> dict[str, int]:
        """Records received by channel."""
        return await self.total("ingestd_records_received_total")

    async def total(self, name: str, label: str = "channel") -> dict[str, int]:
        """A counter summed by one label."""
        _, text = await self.get("/metrics")
        sums: dict[str, int] = {}
        for line in text.splitlines():
            if line.startswith(name + "{"):
                key = line.partition(f'{label}="')[2].partition('"')[0]
                sums[key] = sums.get(key, 0) + int(float(line.rpartition(" ")[2]))
        return sums

    async def until(self, holds: Callable[[dict[str, int]], bool], timeout_s: float = 60) -> dict[str, int]:
        """Wait until what was received satisfies `holds`."""
        async with asyncio.timeout(timeout_s):
            while True:
                received = await self.received()
                if holds(received):
                    return received
                assert self.process.returncode is None, f"the daemon ended:\n{self.log()}"
                await asyncio.sleep(0.05)

    async def quiet(self, quiet_s: float = 1.5, timeout_s: float = 60) -> dict[str, int]:
        """Wait until nothing more arrives."""
        async with asyncio.timeout(timeout_s):
            last, same = await self.received(), 0.0
            while same < quiet_s:
                await asyncio.sleep(0.1)
                now = await self.received()
                same, last = (same + 0.1, last) if now == last else (0.0, now)
        return last

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM; the exit code."""
        if self.process.returncode is None:
            self.signal(signal.SIGTERM)
        return await self.ended(timeout_s)

    async def ended(self, timeout_s: float = 60) -> int:
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def counts(self) -> dict[str, Any]:
        """The terms of the conservation law, from the last line of the log."""
        for line in reversed(self.log().splitlines()):
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "stopped":
                return with_zeros(event["counts"])
        raise AssertionError(f"the daemon did not report its counts:\n{self.log()}")


def write_config(folder: Path, document: dict[str, Any]) -> Path:
    """The document as a TOML file; state, log format and a free port are filled in."""
    filled = {
        "instance": {"state_dir": str(folder / "state"), **document.get("instance", {})},
        "log": {"format": "json"},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        **{section: value for section, value in document.items() if section != "instance"},
    }
    path = folder / "ingestd.toml"
    path.write_text(tomlkit.dumps(filled), encoding="utf-8")
    return path


def _read(config_file: Path) -> dict[str, Any]:
    return tomlkit.parse(config_file.read_text(encoding="utf-8")).unwrap()


async def ingestd(*arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60) -> tuple[int, str, str]:
    """Run a command to its end: exit code, standard output, standard error."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = forked_ingestd(arguments, {**os.environ, **(env or {})}, out, err)
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")


@asynccontextmanager
async def running(
    config_file: Path, *, fresh: bool = False, env: dict[str, str] | None = None
) -> AsyncIterator[Daemon]:
    """`ingestd run -c config_file`; killed at the end if it still runs. `fresh`: with an interpreter of its own."""
    document = _read(config_file)
    log_file = config_file.parent / "daemon.log"
    arguments, environ = ("run", "-c", str(config_file)), {**os.environ, **(env or {})}
    process: asyncio.subprocess.Process | Forked
    if fresh:
        command = (sys.executable, "-m", "ingestd", *arguments)
        with log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environ)
    else:
        process = forked_ingestd(arguments, environ, log_file, log_file)
    try:
        yield Daemon(process, f"http://{document['http']['listen']}", log_file)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
