"""Shows records to the live sinks before they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from ingestd import validation
from ingestd.clock import now_us
from ingestd.records import MarketRecord


class LiveSink(Protocol):
    """A sink that publishes records before they are durable."""

    def put_all(self, records: Sequence[MarketRecord]) -> None:
        """Take valid records, one loop turn after they arrived. Never blocks, never raises, costs next to nothing."""


class LiveView:
    """Validates the records of one loop turn together, and hands the valid ones to the live sinks."""

    def __init__(self, sinks: Sequence[LiveSink], time_window: Callable[[int], validation.TimeWindow]) -> None:
        self._sinks = tuple(sinks)
        self._time_window = time_window
        self._unshown: list[MarketRecord] = []
        self._all_valid = True

    def show(self, record: MarketRecord) -> None:
        """Show the record at the end of this loop turn, if it is valid."""
        if not self._unshown:
            asyncio.get_running_loop().call_soon(self._show)
        self._unshown.append(record)

    def flush(self) -> bool:
        """Show the pending records now. Returns whether every record since the last call was valid."""
        if self._unshown:
            self._show()
        all_valid, self._all_valid = self._all_valid, True
        return all_valid

    def _show(self) -> None:
        records, self._unshown = self._unshown, []
        window = self._time_window(now_us())
        if not validation.all_valid(records, window):
            self._all_valid = False
            records = [record for record in records if validation.rejection_reason(record, window) is None]
        if records:
            for sink in self._sinks:
                sink.put_all(records)
