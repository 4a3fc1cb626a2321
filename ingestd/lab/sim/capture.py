"""Reads captures: recorded public traffic of one venue, one JSON object per line (`ts`, `conn`, `kind`, `url`, …)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ingestd.errors import IngestdError
from ingestd.lab.sim.venues import venue_of_url
from ingestd.lab.sim.venues.base import Stream, Venue


class CaptureError(IngestdError):
    """The file is not a capture of a venue the simulator knows."""


class Line(NamedTuple):
    """One line of a capture; `at` is the time of arrival in epoch seconds (None for notes)."""

    at: float | None
    kind: str
    url: str
    data: str


class RecordedFrame(NamedTuple):
    """One market-data frame: time of arrival (epoch seconds), stream, and payload without envelope."""

    at: float
    stream: Stream
    payload: str


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture in memory: `bodies` are pairs of URL and REST body; `enveloped`: it is of combined connections."""

    path: Path
    venue: Venue
    bodies: tuple[tuple[str, str], ...]
    frames: tuple[RecordedFrame, ...]
    enveloped: bool

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last market-data frame."""
        return self.frames[-1].at - self.frames[0].at


def read_lines(path: Path) -> Iterator[Line]:
    """Read the lines of a capture, gzipped or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for text in lines:
            line = json.loads(text)
            yield Line(line["ts"], line["kind"], line.get("url") or "", line.get("data") or "")


def read_capture(path: Path) -> Capture:
    """Read and classify a whole capture. Raises `CaptureError`, or `OSError` if the file cannot be read."""
    lines = list(read_lines(path))
    venue = next((venue for line in lines if line.url and (venue := venue_of_url(line.url))), None)
    if venue is None:
        raise CaptureError(f"{path}: no URL of a venue the simulator knows")
    frames, enveloped = [], False
    for line in lines:
        if line.kind != "recv" or line.at is None:
            continue
        stream = venue.stream_of(line.data)
        if stream is None:
            continue
        payload = venue.payload(line.data)
        enveloped = enveloped or payload is not line.data
        frames.append(RecordedFrame(line.at, stream, payload))
    if not frames:
        raise CaptureError(f"{path}: no market data in it")
    bodies = tuple((line.url, line.data) for line in lines if line.kind == "http")
    return Capture(path, venue, bodies, tuple(frames), enveloped)
