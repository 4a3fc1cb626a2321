"""Sinks that are wrong on purpose: each way to break the promise, for the test that the oracle sees it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from typing import Any

from ingestd.ops.metrics import Metrics
from ingestd.storage.database import Database
from ingestd.storage.writer.writer import Outcome

_AT = 2  # the COPY of ticks it happens to


def break_sink(way: str) -> None:
    """From now on the sinks of this process are broken in this way, once."""
    if way == "miscounts":
        _miscount()
        return
    copies = 0
    kept: list[bytes] = []
    overtaken = False  # a later row of the same symbol has been stored
    sound = Database.copy_text

    async def copy_text(
        self: Database, table: str, columns: Sequence[str], payload: bytes | AsyncIterable[bytes], **options: Any
    ) -> int:
        nonlocal copies, overtaken
        said = payload.count(b"\n") if isinstance(payload, bytes) else 0
        if table == "market_ticks" and isinstance(payload, bytes):
            copies += 1
            *lines, last = payload.splitlines(keepends=True)
            if copies == _AT:
                if way == "changes the order":
                    kept.append(last)
                payload = b"".join([*lines, *_instead_of(last, way)])
            elif kept and overtaken:
                payload += kept.pop()
            elif kept:
                symbol = columns.index("symbol")
                overtaken = any(line.split(b"\t")[symbol] == kept[0].split(b"\t")[symbol] for line in [*lines, last])
        stored = await sound(self, table, columns, payload, **options)
        return said if table == "market_ticks" else stored  # and it lies about it

    Database.copy_text = copy_text  # type: ignore[method-assign] # to be broken is its purpose


def _instead_of(last: bytes, way: str) -> list[bytes]:
    if way == "stores a row twice":
        return [last, last]
    if way == "changes a value":
        columns = last.split(b"\t")
        columns[3] = b"0.001"  # the bid price; no event has it
        return [b"\t".join(columns)]
    return []


def _miscount() -> None:
    sound = Outcome.count

    def count(self: Outcome, metrics: Metrics, sink: str, took_s: float) -> None:
        sound(self, metrics, sink, took_s)
        metrics.stored.labels(sink, "ticks").inc()

    Outcome.count = count  # type: ignore[method-assign] # to be broken is its purpose
