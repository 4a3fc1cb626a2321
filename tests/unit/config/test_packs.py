"""Packs in the configuration: a wrong one is one clear message."""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.config.loading import parse
from ingestd.config.packs import PACKS
from ingestd.errors import ConfigError
from tests.support.sources import DOCUMENTS

DSN = "postgresql://u@h/db"


def problems_of(packs: Any, feeds: Any = (), **options: Any) -> list[str]:
    document: dict[str, Any] = {"database": {"dsn": DSN, "packs": packs}, "packs": options}
    if feeds:
        document["feeds"] = [{"exchange": exchange, "symbols": ["BTC/USDT"]} for exchange in feeds]
    try:
        parse(document, {})
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_an_unknown_pack_is_told_with_the_known() -> None:
    known = ", ".join(PACKS)
    assert problems_of(["kairo"]) == [
        f"database.packs[0]: must be one of {known} (found 'kairo'); did you mean \"kairos\"?"
    ]


def test_options_of_an_unknown_pack() -> None:
    (problem,) = problems_of([], kairo={"exchange": "binance"})
    assert problem.startswith("packs.kairo: unknown key")


def test_a_pack_without_options_needs_nothing() -> None:
    assert problems_of(["kairos"]) == []
    assert problems_of(["kairos"], feeds=["kraken"]) == []


def test_a_pack_that_knows_no_exchange_needs_one_that_a_feed_has() -> None:
    assert problems_of(["ingestion"]) == [
        "packs.ingestion.exchange: is missing: the pack's document knows no exchange, so name one of a feed"
    ]
    assert problems_of(["ingestion"], feeds=["kraken", "binance"], ingestion={"exchange": "bybit"}) == [
        "packs.ingestion.exchange: no feed has this exchange (found 'bybit'); feeds: binance, kraken"
    ]
    assert problems_of(["ingestion"], feeds=["kraken", "binance"], ingestion={"exchange": "binance"}) == []
    assert problems_of(["ingestion"], ingestion={"exchange": "binance"}) == []  # of the role sink, say
    assert problems_of([], feeds=["kraken"], ingestion={"exchange": "binance"}) == []  # not asked for


def test_a_pack_named_twice_is_one() -> None:
    config = parse({"database": {"dsn": DSN, "packs": ["kairos", "kairos"]}}, {})
    assert config.database is not None
    assert config.database.packs == ["kairos", "kairos"]


def test_the_environment_names_packs() -> None:
    config = parse({"database": {"dsn": DSN}}, {"INGESTD_DATABASE__PACKS": '["kairos"]'})
    assert config.database is not None
    assert config.database.packs == ["kairos"]


@pytest.mark.parametrize("pack", PACKS)
def test_every_pack_is_accepted(pack: str) -> None:
    assert parse(DOCUMENTS[pack].config, {}).database is not None
