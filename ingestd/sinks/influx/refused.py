"""Keeps the records, and other points, that the server refuses, one JSON object a line, in the state directory.

The file holds the newest: at its limit it becomes `influx.refused.1`, which replaces the one before.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson
import structlog

from ingestd import files
from ingestd.clock import iso_text, monotonic_s, now_us
from ingestd.errors import SinkStateError
from ingestd.log_limit import LogLimit
from ingestd.sinks.influx.points import Refusal, Told
from ingestd.validation import as_short_json

log = structlog.get_logger()

FILE_NAME = "influx.refused"
_MOST_BYTES = 16 * 2**20  # for users: docs/influx.md
_SHOWN_S = 60.0
_SHOWN_CHARACTERS = 500


class RefusedFile:
    """Writes refusals into the file and the log, and says for a minute that there were some."""

    def __init__(self, state_dir: Path, most_bytes: int = _MOST_BYTES) -> None:
        self.path = state_dir / FILE_NAME
        self._most_bytes = most_bytes
        self._log_limit = LogLimit()
        self._unlogged: Counter[str] = Counter()  # records, by reason
        self._last: tuple[float, str] | None = None

    @property
    def problem(self) -> str | None:
        """A sentence for people; None if nothing was refused lately."""
        if self._last is None or monotonic_s() - self._last[0] >= _SHOWN_S:
            return None
        return f"points are refused and put aside in {self.path}: {self._last[1]}"

    def keep(self, refusals: Sequence[Refusal]) -> None:
        """Append them durably. Blocks on the disk. Raises SinkStateError: nothing may be lost, so try again."""
        at = iso_text(now_us())
        payload = b"".join(_line(at, refusal) for refusal in refusals)
        try:
            self._make_room(len(payload))
            with os.fdopen(files.open_own(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkStateError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def tell(self, refusals: Sequence[Refusal]) -> None:
        """Log them: each reason once a minute, with the number of records since, and one example."""
        for refusal in refusals:
            self._unlogged[refusal.reason] += 1
        for reason, refusal in {refusal.reason: refusal for refusal in refusals}.items():
            self._last = monotonic_s(), refusal.error[:_SHOWN_CHARACTERS]
            if self._log_limit.allows(reason):
                log.warning(
                    "influx_points_refused",
                    reason=reason,
                    records=self._unlogged.pop(reason),
                    error=refusal.error[:_SHOWN_CHARACTERS],
                    channel=refusal.channel,
                    **({} if isinstance(refusal.record, Told) else {"symbol": refusal.record.symbol}),
                    kept_in=str(self.path),
                )

    def _make_room(self, more_bytes: int) -> None:
        if self.path.exists() and self.path.stat().st_size + more_bytes > self._most_bytes:
            os.replace(self.path, self.path.with_name(f"{FILE_NAME}.1"))
            files.sync_directory(self.path.parent)


def _line(at: str, refusal: Refusal) -> bytes:
    told = {
        "at": at,
        "channel": refusal.channel,
        "reason": refusal.reason,
        "error": refusal.error,
        "record": orjson.Fragment(as_short_json(refusal.record)),
    }
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
