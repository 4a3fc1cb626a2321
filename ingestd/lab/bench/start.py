"""Measures the time from process start to the first committed row: on a first start and on a restart."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from ingestd.clock import monotonic_s
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figure, Figures
from ingestd.lab.bench.rig import Plan, Server

_POLL_S = 0.01
_LONGEST_S = 60.0


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Start twice with the same state directory; the second time, the venue's markets are known."""
    plan.say("start to first committed row, twice")
    async with server.database() as dsn, rig.venue("volley", "--symbols", plan.symbols, "--rate", 1000) as venue:
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
            first = await _first_row_s(dsn, venue, Path(folder))
            again = await _first_row_s(dsn, venue, Path(folder))
    figures.add(Figure("start.first_row", "start to first committed row", first, "s"))
    figures.add(Figure("start.first_row_again", "the same, started again: its markets are kept", again, "s"))


async def _first_row_s(dsn: str, venue: rig.Venue, folder: Path) -> float:
    async with rig.connected(dsn) as database:
        await rig.emptied(database)
        started_s = monotonic_s()
        async with rig.daemon([venue.feed("native")], {"database": {"dsn": dsn}}, folder=folder):
            async with asyncio.timeout(_LONGEST_S):
                while not await database.fetchval("SELECT EXISTS (SELECT FROM trades)"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_POLL_S)
            return monotonic_s() - started_s
