"""Keeps the acknowledged positions of a sink in a file, where its server cannot store them together with the data.

The file is at most a second behind the acknowledgements. After a crash the records of that second are sent again, and
the sink says how repeats are told: consumers of Kafka drop them (docs/kafka.md), a point of InfluxDB replaces itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from ingestd import files
from ingestd.errors import SinkStateError
from ingestd.journal.journal import Batch, Cursor

log = structlog.get_logger()

_SAVE_EVERY_S = 1.0


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    positions: dict[str, int]


class CursorFile:
    """The acknowledged position of each journal, and the file that keeps it (JSON): `{sink}.cursor`."""

    def __init__(self, state_dir: Path, sink: str) -> None:
        self.path = state_dir / f"{sink}.cursor"
        self._sink = sink
        self.positions: dict[str, int] = {}
        self._saved: dict[str, int] = {}
        self._changed = asyncio.Event()

    def load(self, journal_ids: Collection[str]) -> None:
        """Read the positions of these journals, which still have files. Raises SinkStateError if the disk refuses.

        If the file is missing or damaged, there are no positions: the whole journal is sent again, nothing is lost.
        """
        try:
            document = msgspec.json.decode(files.read(self.path), type=_Document)
        except FileNotFoundError:
            return
        except OSError as error:
            raise SinkStateError(f"{self.path} cannot be read: {error.strerror}; check its permissions") from error
        except msgspec.MsgspecError as error:
            log.warning(
                f"{self._sink}_cursor_damaged",
                path=str(self.path),
                error=str(error),
                effect="the journal is sent again",
            )
            return
        self.positions = {key: value for key, value in document.positions.items() if key in journal_ids}
        self._saved = dict(document.positions)

    def acknowledge(self, journal_id: str, position: int) -> None:
        """Note that the server has everything of this journal up to this position."""
        self.positions[journal_id] = position
        self._changed.set()

    def forget_all_but(self, journal_ids: Collection[str]) -> None:
        """Forget the positions of all journals but these: the others have no files any more."""
        self.positions = {known: position for known, position in self.positions.items() if known in journal_ids}

    async def keep(self) -> None:
        """Save changes, at most once a second, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.save()
            await asyncio.sleep(_SAVE_EVERY_S)

    async def save(self) -> None:
        """Save the positions now. If the disk fails, log it and have `keep` try again.

        The longer that fails, the more records are sent again after a crash.
        """
        positions = dict(self.positions)
        if positions == self._saved:
            return
        payload = msgspec.json.encode(_Document(1, positions))
        try:
            await asyncio.to_thread(files.replace, self.path, payload)
        except OSError as error:
            self._changed.set()
            log.warning(f"{self._sink}_cursor_not_saved", path=str(self.path), error=str(error))
        else:
            self._saved = positions


class Progress:
    """How far a sink has come in the journal, and its cursor file."""

    def __init__(self, cursor: Cursor, journal_ids: Callable[[], list[str]], state_dir: Path, sink: str) -> None:
        self._cursor = cursor
        self._journal_ids = journal_ids
        self._sink = sink
        self._file = CursorFile(state_dir, sink)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Skip what an earlier run has done; inside the block keep the file, and save it at the end.

        Raises SinkStateError if the file cannot be read.
        """
        ids = self._journal_ids()
        self._file.load(ids)
        for journal_id in ids:
            if position := self._file.positions.get(journal_id, 0):
                await self._cursor.skip_to(journal_id, position)
        keeper = asyncio.create_task(self._file.keep(), name=f"{self._sink}-cursor")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})
            await self._file.save()
        if not keeper.cancelled():
            keeper.result()

    def acknowledge(self, batches: list[Batch]) -> None:
        """Note that the server has all of these batches."""
        for batch in batches:
            self._file.acknowledge(batch.journal_id, batch.position)
        self._cursor.acknowledge(batches)
        self._file.forget_all_but(self._journal_ids())
