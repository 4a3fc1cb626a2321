"""How each sink of `SINKS` is tested: a module for each row, named like it.

It defines `SERVERS`, the kinds of server to test with, and `harness(request, server)`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from ingestd.journal.journal import Cursor, Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord
from ingestd.sinks.base import DurableSink, LiveSink
from ingestd.sinks.table import SINKS

Ids = list[str]


class Harness(Protocol):
    """How one kind of durable sink is made here, and what it has stored."""

    name: str
    trouble: Exception | None  # what its next connections fail with

    def make(self, cursor: Cursor, journal: Journal, state_dir: Path, metrics: Metrics) -> DurableSink: ...

    def bad_record(self) -> MarketRecord:
        """One that the server will not take."""

    async def stored_ids(self) -> Ids:
        """The ids of the trades stored, in no order."""


class LiveHarness(Protocol):
    """How one kind of live sink is made here, and what it shows."""

    def make(self, metrics: Metrics) -> LiveSink:
        """One that reaches its server."""

    def make_without_server(self, metrics: Metrics) -> LiveSink:
        """One whose server does not answer."""

    def last_price(self) -> str | None:
        """The price of the trade that it shows for BTC/USDT."""


def module_of(name: str) -> Any:
    """The module that says how the sink of this name is tested. A row of SINKS without one fails here."""
    return importlib.import_module(f"tests.contract.sinks.{name}")


def cases(*, live: bool) -> list[str]:
    """`sink-server` for each sink of this kind and each kind of server it is tested with."""
    return [
        f"{name}-{server}" for name, kind in SINKS.items() if kind.is_live is live for server in module_of(name).SERVERS
    ]
