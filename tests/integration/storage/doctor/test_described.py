"""The checked-in descriptions of the schema are what the migrations make, on every engine."""

from __future__ import annotations

import pytest

from ingestd.storage.doctor.description import described, to_json
from ingestd.storage.doctor.drift import compare
from ingestd.storage.engine import Engine
from ingestd.storage.migrations import load
from tests.support.described import FOLDER, SERVERS, described_on
from tests.support.postgres import running_server

ANEW = "the migrations make another schema: python -m tests.support.described"


@pytest.mark.parametrize("engine", Engine)
def test_the_descriptions_are_those_of_the_migrations(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)  # another server may print the same schema in other words
    kind, settings = SERVERS[engine]
    with running_server(kind, **settings) as server:
        found, present = described_on(server)
    assert found is engine
    assert present.version == load(engine)[-1].version
    expected = described(engine)
    assert expected is not None
    assert list(compare(expected, present)) == [], ANEW
    assert (FOLDER / f"{engine.value}.json").read_bytes() == to_json(present), ANEW


def test_there_is_one_for_each_engine() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {engine.value for engine in Engine}
