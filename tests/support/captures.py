"""Recorded public traffic: the lines of a capture, and ccxt's markets from the REST answers in it.

The recordings lie outside the project (`../shared/data`); a test that needs them says so when they are not there.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ingestd.feeds.ccxt.session import CcxtSession
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.venues.exact import decode_json
from tests.unit.feeds.doubles import SHARED_DATA, ListIntake, feed_config


def shared(folder: str) -> Path:
    """`captures` or `messages`; skips the test when they are not there."""
    found = SHARED_DATA / folder
    if not found.is_dir():
        pytest.skip(f"the recorded exchange traffic is not here (../shared/data/{folder})")
    return found


def capture_lines(name: str) -> list[dict[str, Any]]:
    """The lines of a capture, without its `.ndjson.gz`: `kind` is http, sent, recv, open, note."""
    with gzip.open(shared("captures") / f"{name}.ndjson.gz", "rt") as recorded:
        return [json.loads(line) for line in recorded]


def capture_bodies(lines: list[dict[str, Any]]) -> dict[str, str]:
    """The REST answers in a capture by URL."""
    return {line["url"]: line["data"] for line in lines if line["kind"] == "http"}


async def recorded_markets(
    exchange: str, bodies: Mapping[str, str], options: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """What `load_markets` makes of the recorded answers, by unified symbol."""
    config = feed_config(exchange, ["*"], options=dict(options or {}))
    session = CcxtSession(config, TapReader(config, ListIntake()))

    async def fetch(asked: str, *_: Any, **__: Any) -> Any:
        return decode_json(recorded_body(exchange, asked, bodies))

    session.exchange.fetch = fetch
    try:
        markets = dict(await session.exchange.load_markets())
        assert session.exchange.namesakes == {}  # nothing that was recorded is put aside for sharing its name
        return markets
    finally:
        await session.close()


def recorded_body(exchange: str, asked: str, bodies: Mapping[str, str]) -> str:
    """The recorded answer with the same last path segment and instrument type; `[]` when there is none."""
    for url, body in bodies.items():
        if _essence(url) == _essence(asked):
            if exchange == "krakenfutures":  # lower case in REST then, upper case now and on the socket
                document = json.loads(body, parse_float=str)
                for instrument in document["instruments"]:
                    instrument["symbol"] = instrument["symbol"].upper()
                return json.dumps(document)
            return body
    return "[]"


def _essence(url: str) -> tuple[str, list[str]]:
    parts = urlsplit(url)
    return parts.path.rpartition("/")[2], parse_qs(parts.query).get("instType", [])
