"""`ingestd check --connect`: what answers is said, what does not is named with the remedy, and nothing is changed."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.kafka import envelope
from ingestd.lab.sim.child import free_port
from ingestd.lab.sim.embedded_kafka import EmbeddedKafka
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.lab.sim.synthetic.venue import synthetic_venue
from tests.support.brokers import Broker
from tests.support.daemon import ingestd, write_config
from tests.support.postgres import DatabaseForTest, Server, temporary_database

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def valkey() -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey() as server:
        yield server


async def ask(folder: Path, document: dict[str, Any]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and each answer by its place."""
    code, out, err = await ingestd("check", "--connect", "--json", "-c", str(write_config(folder, document)))
    assert "Traceback" not in err
    assert err == ""
    return code, {answer["who"]: answer for answer in json.loads(out)["answers"]}


async def test_everything_that_answers_is_named(
    embedded_kafka: Broker, valkey: EmbeddedValkey, postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    assert isinstance(embedded_kafka, EmbeddedKafka)
    prefix = f"t{uuid.uuid4().hex[:10]}"
    async with synthetic_venue(symbols=2, rate=1.0) as venue:
        feed = {"exchange": "binance", "symbols": ["*/USDT"], "url_map": venue.url_map}
        document: dict[str, Any] = {
            "database": {"dsn": postgres_database.dsn},
            "redis": {"url": valkey.url},
            "kafka": {
                **embedded_kafka.settings(),
                "bootstrap_servers": [embedded_kafka.bootstrap],
                "topic_prefix": prefix,
            },
            "feeds": [feed],
        }
        for _ in range(2):  # nothing is changed: the topics are still to be made
            code, answers = await ask(tmp_path, document)
            assert (code, list(answers)) == (0, ["database", "redis", "kafka", "feeds[0]"]), answers
            assert "version 1" in answers["database"]["said"]
            assert "engine postgres" in answers["database"]["said"]
            assert "answered" in answers["redis"]["said"]
            assert embedded_kafka.bootstrap in answers["kafka"]["said"]
            count = len(envelope.topics("p"))
            assert f"{count} of {count} topics do not exist" in answers["kafka"]["said"]
            assert "binance: its REST answered; 2 markets would be followed" in answers["feeds[0]"]["said"]
        document["kafka"]["create_topics"] = False
        document["feeds"] = [{**feed, "symbols": ["BTC/USDT", "BTCUSDT", "NO/SUCH"]}]
        code, answers = await ask(tmp_path, document)
        assert code == 1
        assert [who for who, answer in answers.items() if answer["problems"]] == ["kafka", "feeds[0]"]
        assert "kafka.create_topics = true" in answers["kafka"]["problems"][0]
        assert [problem.partition(":")[0] for problem in answers["feeds[0]"]["problems"]] == ["BTCUSDT", "NO/SUCH"]
        assert "nearest: BTC/USDT" in answers["feeds[0]"]["problems"][0]


async def test_whatever_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    port = free_port()
    document = {
        "database": {"dsn": f"postgresql://u:CANARY1@127.0.0.1:{port}/d"},
        "redis": {"url": f"redis://:CANARY2@127.0.0.1:{port}/0"},
        "kafka": {"bootstrap_servers": [f"127.0.0.1:{port}"], "request_timeout_s": 1.0},
        "feeds": [
            {
                "exchange": "binance",
                "symbols": ["BTC/USDT"],
                "url_map": {"https://api.binance.com": f"http://127.0.0.1:{port}"},
            }
        ],
    }
    code, answers = await ask(tmp_path, document)
    assert (code, list(answers)) == (1, ["database", "redis", "kafka", "feeds[0]"])
    for who in ("database", "redis"):
        assert "nothing listens there; is the server running, and on this port?" in answers[who]["problems"][0]
    for answer in answers.values():
        (problem,) = answer["problems"]
        assert answer["said"] == ""
        assert "Error 111" not in problem
        assert f"127.0.0.1:{port}" in problem
        assert "CANARY" not in problem


async def test_a_database_without_the_schema_says_what_to_run(postgres_server: Server, tmp_path: Path) -> None:
    with temporary_database(postgres_server, migrated=False) as empty:
        document = {
            "instance": {"role": "sink"},
            "database": {"dsn": empty.dsn},
            "kafka": {"bootstrap_servers": ["127.0.0.1:1"], "request_timeout_s": 1.0},
        }
        code, answers = await ask(tmp_path, document)
    assert (code, list(answers)) == (1, ["database", "kafka"])
    assert answers["database"]["problems"] == ["the database is empty: run `ingestd migrate -c FILE`"]
    assert ": answered, version " in answers["database"]["said"]
    assert answers["kafka"]["said"] == ""


async def test_a_right_that_is_missing_is_named_with_its_grant(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    owner = await postgres_database.connect()
    try:
        await owner.script(
            f"CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT SELECT ON ALL TABLES IN SCHEMA public, audit TO {role};"
            f" GRANT USAGE ON SCHEMA audit TO {role}"
        )
        document = {
            "database": {"dsn": re.sub("//[^@]*@", f"//{role}:secret@", postgres_database.dsn)},
            "feeds": [
                {"exchange": "binance", "symbols": ["BTC/USDT"], "url_map": {"https://api.binance.com": NOWHERE}}
            ],
        }
        code, answers = await ask(tmp_path, document)
        assert code == 1
        missing = answers["database"]["problems"]
        assert f'a right is missing: GRANT INSERT, DELETE ON public.trades TO "{role}"' in missing
        for problem in missing:
            await owner.execute(problem.removeprefix("a right is missing: "))
        _, answers = await ask(tmp_path, document)
        assert answers["database"]["problems"] == []
    finally:
        await owner.script(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("dsn", "check the password (database.dsn) and the user"),
        ("dsn_file", "check the password (database.dsn_file: {}/dsn) and the user"),
        ("password_file", "check the password (database.password_file: {}/word) and the user"),
        ("PGPASSWORD", "check the password (the variable PGPASSWORD) and the user"),
        ("none", "no password was given: name its file in database.password_file"),
    ],
)
async def test_a_refused_password_is_told_by_where_it_came_from(
    postgres_database: DatabaseForTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, advice: str
) -> None:
    password = {"dsn": ":wrong-one", "dsn_file": ":wrong-one"}.get(source, "")
    database = {"dsn": re.sub("//[^:@]*(:[^@]*)?@", f"//nobody{password}@", postgres_database.dsn)}
    if source == "dsn_file":
        (tmp_path / "dsn").write_text(database.pop("dsn"))
        database["dsn_file"] = str(tmp_path / "dsn")
    elif source == "password_file":
        (tmp_path / "word").write_text("wrong-one")
        database["password_file"] = str(tmp_path / "word")
    monkeypatch.setenv("PGPASSWORD", "wrong-one" if source == "PGPASSWORD" else "")
    kafka = {"bootstrap_servers": ["127.0.0.1:1"], "request_timeout_s": 1.0}
    _, answers = await ask(tmp_path, {"instance": {"role": "sink"}, "database": database, "kafka": kafka})
    (problem,) = answers["database"]["problems"]
    assert problem.partition("; ")[2].startswith(advice.format(tmp_path)), problem
    assert "wrong-one" not in problem
