"""A cache of a venue's markets on disk, so that a start need not wait for the venue."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from ingestd import files
from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.venues.exact import decode_json, encode_json
from ingestd.venues.families import Family

log = structlog.get_logger()

FRESH_FOR_S = 86_400.0
_VERSION = 1
_writing = threading.Lock()  # two feeds of one exchange may share a file


class MarketCache:
    """The cache file of one venue under one configuration. If the disk fails, the next start asks the venue.

    `loaded_at`: when the venue listed the markets that were last read or passed to `write`, in microseconds; 0 before
    the first.
    """

    def __init__(self, state_dir: Path, config: FeedConfig) -> None:
        # These options decide which server lists which markets.
        asked = msgspec.json.encode([config.exchange, config.options, config.url_map], order="sorted")
        name = f"{config.exchange}-{hashlib.blake2b(asked, digest_size=6).hexdigest()}.json"
        self.path = state_dir / "markets" / name
        self.loaded_at = 0
        self.missing: dict[Family, str] = {}  # by `read`: the families that the file lacks, and why

    def read(self) -> list[dict[str, Any]] | None:
        """Return the markets in the exchange library's form; None if the file has none, is old, or cannot be read."""
        try:
            document = decode_json(files.read(self.path))
            if document["version"] != _VERSION or not all(isinstance(m["symbol"], str) for m in document["markets"]):
                return None
            loaded_at = int(document["loaded_at"])
            missing = {Family(m["name"], frozenset(m["kinds"])): str(m["why"]) for m in document.get("missing", ())}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("markets_not_read", path=str(self.path), error=str(error)[:300])
            return None
        if not document["markets"] or not 0 <= now_us() - loaded_at <= FRESH_FOR_S * 1e6:
            return None
        self.loaded_at, self.missing = loaded_at, missing
        markets: list[dict[str, Any]] = document["markets"]
        return markets

    def write(self, markets: Sequence[Mapping[str, Any]], missing: Iterable[tuple[Family, str]] = ()) -> None:
        """Replace the file, and log it if the disk fails. A later start asks again for the `missing` families.

        May run in a thread.
        """
        loaded_at = now_us()
        lacks = [{"name": family.name, "kinds": sorted(family.kinds), "why": why} for family, why in missing]
        try:
            files.make_directory(self.path.parent)
            document = {"version": _VERSION, "loaded_at": loaded_at, "missing": lacks, "markets": list(markets)}
            payload = encode_json(document)
            with _writing:
                files.replace(self.path, payload)
        except (OSError, ValueError, TypeError) as error:
            log.warning("markets_not_written", path=str(self.path), error=str(error)[:300])
        self.loaded_at = loaded_at
