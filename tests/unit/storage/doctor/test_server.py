"""What the doctor says of a server, its encoding and its extension."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingestd.config.loading import parse
from ingestd.storage.doctor import server
from ingestd.storage.doctor.server import ServerFacts

PLAIN = ServerFacts("market", 16, "UTF8")
COMMUNITY = ServerFacts("market", 17, "UTF8", "2.26.4", "2.26.4", True, "timescale", 16, slots=27, slots_needed=27)


def judged(facts: ServerFacts) -> list[tuple[str, str, str]]:
    return [(found.level, found.subject, found.remedy) for found in server.judge(facts, parse({}, {}))]


@pytest.mark.parametrize("facts", [PLAIN, COMMUNITY, replace(COMMUNITY, license="apache", workers=0)])
def test_a_server_as_it_should_be_has_no_finding(facts: ServerFacts) -> None:
    assert judged(facts) == []


@pytest.mark.parametrize(
    ("facts", "level", "remedy"),
    [
        (replace(PLAIN, version=13), "error", "pg_upgrade"),
        (replace(PLAIN, encoding="LATIN1"), "error", "CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'"),
        (replace(COMMUNITY, preloaded=False), "error", "shared_preload_libraries = 'timescaledb'"),
        (replace(COMMUNITY, extension="2.18.2"), "error", "ALTER EXTENSION timescaledb UPDATE"),
        (replace(COMMUNITY, extension="2.26.3"), "warning", "ALTER EXTENSION timescaledb UPDATE"),
        (replace(COMMUNITY, extension="2.26.4-dev", available="2.27.0"), "warning", "ALTER EXTENSION timescaledb"),
        (replace(COMMUNITY, workers=0), "error", "ALTER SYSTEM SET timescaledb.max_background_workers"),
        (replace(COMMUNITY, slots=8), "warning", "ALTER SYSTEM SET max_worker_processes = 27;"),
    ],
)
def test_what_is_wrong_is_found_with_its_remedy(facts: ServerFacts, level: str, remedy: str) -> None:
    ((found, _, text),) = judged(facts)
    assert found == level
    assert remedy in text


def test_a_newer_extension_than_the_one_on_offer_is_not_old() -> None:
    assert judged(replace(COMMUNITY, available="2.9.10")) == []
