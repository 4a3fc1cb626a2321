"""Reads captures: recorded public traffic of one venue, one JSON object per line (`ts`, `conn`, `kind`, `url`, …)."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from ingestd.errors import IngestdError
from ingestd.lab.sim.venues.base import Stream, Venue
from ingestd.lab.sim.venues.binance import Binance
from ingestd.lab.sim.venues.coinbase import Coinbase
from ingestd.lab.sim.venues.kraken_futures import KrakenFutures
from ingestd.lab.sim.venues.okx import Okx

# host name in a capture's URLs → venue
_VENUE_OF_HOST: dict[str, Callable[[], Venue]] = {
    "fstream.binance.com": lambda: Binance(linear=True),
    "fapi.binance.com": lambda: Binance(linear=True),
    "stream.binance.com": Binance,
    "api.binance.com": Binance,
    "coinbase.com": Coinbase,
    "okx.com": Okx,
    "futures.kraken.com": KrakenFutures,
}


class CaptureError(IngestdError):
    """The file is not a capture of a venue the simulator knows."""


class Line(msgspec.Struct):
    """One line of a capture; `ts` is the time of arrival in epoch seconds (None for notes)."""

    ts: float | None
    kind: str
    url: str | None = None
    data: str | None = None


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


def venue_of_url(url: str) -> Venue | None:
    """The venue of a recorded URL; the table lists more specific host names first."""
    return next((make() for host, make in _VENUE_OF_HOST.items() if host in url), None)


def read_capture(path: Path) -> Capture:
    """Read and classify a whole capture, gzipped or not. Raises `CaptureError`, or `OSError` if it cannot be read."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        lines = [msgspec.json.decode(text, type=Line) for text in file]
    venue = next((venue for line in lines if line.url and (venue := venue_of_url(line.url))), None)
    if venue is None:
        raise CaptureError(f"{path}: no URL of a venue the simulator knows")
    frames, enveloped = [], False
    for line in lines:
        if line.kind == "recv" and line.ts is not None and line.data and (stream := venue.stream_of(line.data)):
            payload = venue.payload(line.data)
            enveloped |= payload is not line.data
            frames.append(RecordedFrame(line.ts, stream, payload))
    if not frames:
        raise CaptureError(f"{path}: no market data in it")
    bodies = tuple((line.url or "", line.data or "") for line in lines if line.kind == "http")
    return Capture(path, venue, bodies, tuple(frames), enveloped)
