"""`ingestd check` finds at the first try whatever would end `ingestd run` with 2, and says it in our own words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import tomlkit
from click.testing import CliRunner
from pydantic import BaseModel

from ingestd.cli import cli
from ingestd.config.loading import examine
from ingestd.config.models import Config, FeedConfig
from ingestd.errors import ConfigError
from ingestd.feeds.markets.cache import MarketCache
from ingestd.service import Service
from ingestd.sink_service import SinkService

DATABASE = {"dsn": "postgresql://u@h/d"}
FEED = {"exchange": "binance", "symbols": ["BTC/USDT"], "channels": ["trades"]}


def check(folder: Path, document: dict[str, Any]) -> tuple[int, dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """The exit code, every mistake by its place, and the notes."""
    document = {**document, "instance": {"state_dir": str(folder), **document.get("instance", {})}}
    file = folder / "ingestd.toml"
    file.write_text(tomlkit.dumps(document), encoding="utf-8")
    result = CliRunner().invoke(cli, ["check", "-c", str(file), "--json"])
    shown = json.loads(result.stdout.splitlines()[-1])
    assert shown["ok"] is (result.exit_code == 0)
    return result.exit_code, {each["path"]: each for each in shown.get("problems", [])}, shown.get("notes", [])


@pytest.mark.parametrize(
    ("document", "places"),
    [
        ({}, {"feeds", "database"}),
        ({"database": DATABASE}, {"feeds"}),
        ({"feeds": [FEED]}, {"database"}),
        ({"redis": {}, "feeds": [FEED]}, {"database"}),
        ({"instance": {"role": "feed"}, "database": DATABASE, "feeds": [FEED]}, {"kafka"}),
        ({"instance": {"role": "sink"}}, {"kafka", "database"}),
        ({"instance": {"role": "sink"}, "kafka": {}}, {"database"}),
        ({"instance": {"role": "sink"}, "kafka": {}, "database": DATABASE}, set()),
        ({"instance": {"role": "feed"}, "kafka": {}, "feeds": [FEED]}, set()),
        ({"database": DATABASE, "feeds": [FEED]}, set()),
        ({"kafka": {}, "feeds": [FEED]}, set()),
    ],
)
def test_a_daemon_that_would_do_nothing_is_refused(tmp_path: Path, document: dict[str, Any], places: set[str]) -> None:
    code, problems, _ = check(tmp_path, document)
    assert (code, set(problems)) == (2 if places else 0, places)
    config = Config.model_validate(document)
    daemon = SinkService if config.instance.role == "sink" else Service
    if not places:
        daemon(config)
        return
    with pytest.raises(ConfigError) as caught:
        daemon(config)
    assert {problem.path for problem in caught.value.problems} == places


def test_mistakes_of_every_kind_are_found_at_once(tmp_path: Path) -> None:
    document = {
        "jornal": {},
        "http": {"listen": "here"},
        "retention": {"candles_1d_days": 5},
        "database": {"dsn": "mysql://h/d", "flush_ms": 0},
        "kafka": {"ca_file": "missing.pem", "tls": True, "partitions": "six"},
        "redis": {"password_file": "missing"},
        "feeds": [
            {"exchange": "binnance", "symbols": ["BTC/USDT"], "channels": ["trade"]},
            {"exchange": "kraken", "symbols": ["BTC/USD"], "channels": ["tick", "trades", "open_interest"]},
            {"exchange": "BINANCE", "symbols": ["BTC/USDT"]},
            {"exchange": "okx", "channels": ["candles"], "candle_timeframe": "7m"},
            {"symbols": ["BTC/USDT"]},
            {"exchange": "bybit", "symbols": ["BTC/USDT"], "chanels": ["trades"], "credentials_file": "missing.toml"},
        ],
    }
    code, problems, _ = check(tmp_path, document)
    assert code == 2
    assert set(problems) == {
        "jornal",
        "http.listen",
        "retention.candles_1d_days",
        "database.dsn",
        "database.flush_ms",
        "kafka.ca_file",
        "kafka.partitions",
        "redis.password_file",
        "feeds[0].exchange",
        "feeds[0].channels[0]",
        "feeds[1].channels[0]",
        "feeds[1].channels[2]",
        "feeds[2].exchange",
        "feeds[3]",
        "feeds[3].candle_timeframe",
        "feeds[4].exchange",
        "feeds[5].chanels",
        "feeds.credentials_file",
    }
    assert problems["feeds[0].exchange"]["hint"].startswith('did you mean "binance"?')
    assert problems["feeds[2].exchange"]["hint"].startswith('did you mean "binance"?')
    assert "15m" in problems["feeds[3].candle_timeframe"]["hint"]


def test_overlapping_feeds_hide_no_other_mistake(tmp_path: Path) -> None:
    code, problems, _ = check(tmp_path, {"database": {"dsn": "mysql://h/d"}, "feeds": [FEED, FEED]})
    assert (code, set(problems)) == (2, {"feeds[1].symbols", "database.dsn"})


def test_a_timeframe_that_the_venue_has_not_is_found(tmp_path: Path) -> None:
    _, problems, _ = check(
        tmp_path, {"database": DATABASE, "feeds": [{**FEED, "channels": ["candles"], "candle_timeframe": "7m"}]}
    )
    assert set(problems) == {"feeds[0].candle_timeframe"}


MARKETS = [
    {"symbol": f"{base}/USDT", "id": f"{base}USDT", "base": base, "quote": "USDT", "spot": True, "active": True}
    for base in ("BTC", "ETH", "SOL")
]


@pytest.mark.parametrize("written", ["BTCUSDT", "btc/usdt", "BTC-USDT", "BTC/UDST"])
def test_a_symbol_that_the_venue_did_not_list_is_found_with_the_nearest(tmp_path: Path, written: str) -> None:
    feed = {**FEED, "symbols": ["ETH/USDT", written, "SOL/*"]}
    MarketCache(tmp_path, FeedConfig.model_validate(feed)).write(MARKETS)
    code, problems, _ = check(tmp_path, {"database": DATABASE, "feeds": [feed]})
    assert (code, set(problems)) == (2, {"feeds[0].symbols[1]"})
    assert "BTC/USDT" in problems["feeds[0].symbols[1]"]["message"]
    assert "just now" in problems["feeds[0].symbols[1]"]["message"]


@pytest.mark.parametrize("written", ["BTCUSDT", "btc/usdt", "BTC-USDT", "btc_usdt"])
def test_where_no_list_is_at_hand_a_name_of_another_form_is_noted(tmp_path: Path, written: str) -> None:
    feed = {**FEED, "symbols": ["ETH/USDT", written, "*/EUR", "1000SATS/USDT"]}
    code, _, notes = check(tmp_path, {"database": DATABASE, "feeds": [feed]})
    assert code == 0
    assert [(note["path"], note["hint"]) for note in notes] == [("feeds[0].symbols[1]", 'did you mean "BTC/USDT"?')]


def options(model: type[BaseModel], at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key of the configuration, the first feed's too."""
    for name, field in model.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        section = next((each for each in inner if issubclass(each, BaseModel)), None)
        place = (*at, name, 0) if section is FeedConfig else (*at, name)
        yield place
        if section is not None:
            yield from options(section, place)


BAD_VALUES = [
    True,
    -1,
    0,
    10**30,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "none of these",
    "\ud7ff",
    [],
    [[]],
    [1],
    {},
    {"a": {}},
]
FOREIGN = re.compile(r"should|input|valid |pattern|pydantic|regex|parse|unable|instance of|dictionary", re.IGNORECASE)


@pytest.mark.parametrize("place", list(options(Config)), ids=str)
def test_whatever_stands_there_the_words_are_ours(place: tuple[str | int, ...]) -> None:
    for value in BAD_VALUES:
        document: dict[str, Any] = {"database": dict(DATABASE), "kafka": {}, "redis": {}, "feeds": [dict(FEED)]}
        *way, last = place
        target: Any = document
        for part in way:
            target = target[part] if isinstance(part, int) else target.setdefault(part, {})
        target[last] = value
        _, problems = examine(document, {})
        for problem in problems:
            assert not FOREIGN.search(problem.message), str(problem)
