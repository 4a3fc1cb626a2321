"""The checked-in descriptions of the schema are what the migrations make, on every engine."""

from __future__ import annotations

import pytest

from ingestd.config.packs import PACKS
from ingestd.storage.doctor.description import described, to_json
from ingestd.storage.doctor.drift import compare
from ingestd.storage.engine import Engine
from ingestd.storage.migrations import load
from tests.support.described import FOLDER, SERVERS, described_on, file_of
from tests.support.postgres import running_server

ANEW = "the migrations make another schema: python -m tests.support.described"


@pytest.mark.parametrize("engine", Engine)
def test_the_descriptions_are_those_of_the_migrations(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)  # another server may print the same schema in other words
    kind, settings = SERVERS[engine]
    with running_server(kind, **settings) as server:
        found, described_there = described_on(server)
    assert found is engine
    assert described_there[""].version == max(file.version for file in load(engine) if not file.is_contract)
    for pack, present in described_there.items():
        expected = described(engine, pack)
        assert expected is not None, ANEW
        assert list(compare(expected, present)) == [], ANEW
        assert file_of(engine, pack).read_bytes() == to_json(present), ANEW


def test_there_is_one_for_each_engine_and_pack() -> None:
    files = set(FOLDER.rglob("*.json"))
    assert files == {file_of(engine, pack) for engine in Engine for pack in ("", *PACKS)}
