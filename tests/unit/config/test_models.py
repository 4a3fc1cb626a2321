"""The configuration: every mistake is found, at once, and named where it was written."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ingestd.config import dsn
from ingestd.config.loading import load, parse
from ingestd.config.models import Config, FeedConfig
from ingestd.config.section import effective
from ingestd.config.values import parse_size_bytes
from ingestd.errors import ConfigError, Problem

EXAMPLE = Path(__file__).parents[3] / "config" / "ingestd.toml"
DSN = "postgresql://u@h/db"


def problems_of(document: dict[str, Any], environ: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse(document, environ or {})
    return list(caught.value.problems)


def sections() -> dict[str, type[BaseModel]]:
    """Every table of the file and its model."""
    found: dict[str, type[BaseModel]] = {"feeds": FeedConfig}
    for name in Config.model_fields:
        value = getattr(Config.model_validate({"database": {"dsn": DSN}, "redis": {}, "kafka": {}, "influx": {}}), name)
        if isinstance(value, BaseModel):
            found[name] = type(value)
    return found


class TestExample:
    def test_loads(self) -> None:
        config = load(EXAMPLE, {})
        assert [feed.exchange for feed in config.feeds] == ["binance"]
        assert "SOL/USDT" in config.feeds[0].symbols

    @pytest.mark.parametrize("section", sorted(sections()))
    def test_shows_every_option(self, section: str) -> None:
        text = EXAMPLE.read_text(encoding="utf-8")
        lines = [line.lstrip("# ") for line in text.splitlines()]
        for field in sections()[section].model_fields:
            assert any(line.startswith(f"{field} = ") for line in lines), f"{section}.{field} is not in the example"

    def test_every_value_shown_is_the_default(self) -> None:
        shown = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
        for name, model in sections().items():
            if name == "feeds":
                continue
            servers: dict[str, Any] = {"redis": {}, "kafka": {}, "influx": {}}
            config = Config.model_validate({"database": {"dsn": shown["database"]["dsn"]}, **servers})
            defaults = getattr(config, name)
            assert model.model_validate(shown[name]) == defaults, name


class TestUnknownKeys:
    @given(
        section=st.sampled_from(sorted(set(sections()) - {"feeds"})), key=st.from_regex(r"[a-z_]{1,20}", fullmatch=True)
    )
    def test_are_reported_with_their_path(self, section: str, key: str) -> None:
        if key in sections()[section].model_fields:
            return
        paths = {problem.path: problem.message for problem in problems_of({section: {key: 1}})}
        assert paths[f"{section}.{key}"] == "unknown key"

    @given(key=st.from_regex(r"[a-z_]{1,20}", fullmatch=True), before=st.integers(0, 3))
    def test_in_a_feed_carry_its_number(self, key: str, before: int) -> None:
        if key in FeedConfig.model_fields:
            return
        good = {"exchange": "kraken", "symbols": ["BTC/USD"]}
        feeds = [copy.deepcopy(good) for _ in range(before)] + [{**good, key: 1}]
        assert [problem.path for problem in problems_of({"feeds": feeds})] == [f"feeds[{before}].{key}"]

    @pytest.mark.parametrize(
        ("document", "hint"),
        [
            ({"journal": {"max_byte": "1GiB"}}, 'did you mean "max_bytes"?'),
            ({"jornal": {}}, 'did you mean "journal"?'),
            ({"feeds": [{"exchange": "a", "symbols": ["X"], "chanels": []}]}, 'did you mean "channels"?'),
            ({"instance": {"role": "fead"}}, 'did you mean "feed"?'),
            ({"feeds": [{"exchange": "a", "symbols": ["X"], "channels": ["trade"]}]}, 'did you mean "trades"?'),
        ],
    )
    def test_name_the_nearest(self, document: dict[str, Any], hint: str) -> None:
        assert [problem.hint for problem in problems_of(document)] == [hint]


class TestMistakes:
    def test_are_all_reported_at_once(self) -> None:
        found = problems_of(
            {
                "instance": {"name": "bad name"},
                "intake": {"linger_ms": 0},
                "journal": {"max_bytes": "lots"},
                "database": {"flush_ms": 0},
                "feeds": [{"symbols": ["X"]}, {"exchange": "kraken"}],
            }
        )
        assert {problem.path for problem in found} == {
            "instance.name",
            "intake.linger_ms",
            "journal.max_bytes",
            "database.flush_ms",
            "feeds[0].exchange",
            "feeds[1]",
        }

    @given(document=st.dictionaries(st.sampled_from([*Config.model_fields, "x"]), st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )))  # fmt: skip
    def test_of_any_shape_never_crash(self, document: dict[str, Any]) -> None:
        problems: tuple[Problem, ...] = (Problem("x", "loaded"),)
        try:
            parse(document, {})
        except ConfigError as error:
            problems = error.problems
        assert problems
        assert all(problem.path and problem.message for problem in problems)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"http": {"listen": "9108"}}, "must be host:port"),
            ({"redis": {"url": "localhost"}}, "must begin with redis://"),
            ({"kafka": {"bootstrap_servers": "localhost"}}, "must be a list"),
            ({"kafka": {"topic_prefix": "a b"}}, "letters, digits, dots, dashes and underscores, at most 100"),
            ({"instance": {"name": "a b"}}, "at most 63"),
            ({"instance": {"standby": "maybe"}}, "must be true or false"),
            ({"redis": {"url": "redis://h?socket_timeout=5"}}, "set redis.reply_timeout_s instead"),
            ({"instance": {"state_dir": "a\0b"}}, "has a NUL character"),
            ({"kafka": {"ca_file": "a\0b"}}, "has a NUL character"),
            ({"feeds": [{"exchange": "Kraken", "symbols": ["BTC/USD"]}]}, "small letters"),
            ({"feeds": [{"exchange": "kraken", "channels": [], "symbols": ["BTC/USD"]}]}, "must name at least one"),
        ],
    )
    def test_of_form_are_told_in_words_and_not_as_a_pattern(self, document: dict[str, Any], message: str) -> None:
        (problem,) = problems_of(document)
        assert message in problem.message

    def test_of_syntax_name_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "a.toml"
        file.write_text("[instance\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"a\.toml: is not valid TOML"):
            load(file, {})

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no\.toml: cannot be read: no such file"):
            load(tmp_path / "no.toml", {})

    def test_both_dsn_and_dsn_file_are_refused(self) -> None:
        assert "exactly one" in problems_of({"database": {"dsn": DSN, "dsn_file": "x"}})[0].message


class TestEnvironment:
    def test_overrides_the_file(self) -> None:
        config = parse({"http": {"listen": "127.0.0.1:1"}}, {"INGESTD_HTTP__LISTEN": "0.0.0.0:2"})
        assert config.http.listen == "0.0.0.0:2"

    @pytest.mark.parametrize(
        ("name", "text", "section", "key", "value"),
        [
            ("INGESTD_INTAKE__LINGER_MS", "35", "intake", "linger_ms", 35),
            ("INGESTD_JOURNAL__MAX_BYTES", "2GiB", "journal", "max_bytes", 2 * 2**30),
            ("INGESTD_KAFKA__BOOTSTRAP_SERVERS", '["a:1", "b:2"]', "kafka", "bootstrap_servers", ["a:1", "b:2"]),
            ("INGESTD_VALIDATION__MAX_AHEAD_S", "1.5", "validation", "max_ahead_s", 1.5),
            ("INGESTD_RETENTION__TRADES_DAYS", "0", "retention", "trades_days", 0),
        ],
    )
    def test_values_have_the_keys_type(self, name: str, text: str, section: str, key: str, value: object) -> None:
        assert getattr(getattr(parse({}, {name: text}), section), key) == value

    def test_makes_a_section(self) -> None:
        config = parse({}, {"INGESTD_DATABASE__DSN": DSN})
        assert config.database is not None
        assert config.database.dsn == DSN

    def test_an_unknown_section_is_a_mistake(self) -> None:
        assert problems_of({}, {"INGESTD_HTPP__LISTEN": "x"}) == [
            Problem("INGESTD_HTPP__LISTEN", "names no section that can be overridden", "'htpp'", 'did you mean "http"?')
        ]

    def test_an_unknown_key_is_a_mistake(self) -> None:
        assert [problem.path for problem in problems_of({}, {"INGESTD_HTTP__LISTN": "x"})] == ["http.listn"]

    @pytest.mark.parametrize(
        ("name", "text", "path"),
        [
            ("INGESTD_HTTP__LISTN", "x", "INGESTD_HTTP__LISTN"),
            ("INGESTD_HTTP__LISTEN", "nonsense", "INGESTD_HTTP__LISTEN"),
            ("INGESTD_Kafka__Bootstrap_Servers", "[1, true]", "INGESTD_Kafka__Bootstrap_Servers[1]"),
            ("INGESTD_INTAKE__WHEN_FULL", '{trades = "x"}', "INGESTD_INTAKE__WHEN_FULL.trades"),
        ],
    )
    def test_a_mistake_in_a_variable_is_named_by_the_variable(
        self, name: str, text: str, path: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "ingestd.toml"
        file.write_text("[log]\nlevel = 1\n", encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load(file, {name: text})
        paths = {problem.path for problem in caught.value.problems}
        assert paths - {"INGESTD_Kafka__Bootstrap_Servers[0]"} == {path, "log.level"}

    @pytest.mark.parametrize("name", ["INGESTD", "INGESTD_HOME", "PATH", "XINGESTD_HTTP__LISTEN"])
    def test_other_variables_are_not_ours(self, name: str) -> None:
        assert parse({}, {name: "x"}) == parse({}, {})


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("10GiB", 10 * 2**30),
            ("64 MB", 64 * 10**6),
            ("1.5kib", 1536),
            ("512", 512),
            (7, 7),
            ("3B", 3),
            ("1TiB", 2**40),
        ],
    )
    def test_are_read(self, text: object, size: int) -> None:
        assert parse_size_bytes(text) == size

    @pytest.mark.parametrize("text", ["", "GiB", "10 Gb/s", "-1", "1e3", None, True, 1.5, [], "10GiB10"])
    def test_that_are_none_are_refused(self, text: object) -> None:
        with pytest.raises(ValueError, match="write a size"):
            parse_size_bytes(text)

    @given(st.integers(1, 10**15))
    def test_plain_numbers_are_bytes(self, size: int) -> None:
        assert parse_size_bytes(str(size)) == parse_size_bytes(size) == size

    @pytest.mark.parametrize("size", [0, "0GiB", -5])
    def test_nothing_is_no_size(self, size: object) -> None:
        assert [problem.path for problem in problems_of({"journal": {"max_bytes": size}})] == ["journal.max_bytes"]


class TestSecrets:
    def test_are_read_when_asked_for(self, tmp_path: Path) -> None:
        secret = tmp_path / "password"
        config = parse({"database": {"dsn": "postgresql://u@h:1/db", "password_file": "password"}}, {}, base=tmp_path)
        assert config.database is not None
        secret.write_text("first\n", encoding="utf-8")
        assert config.database.resolved_dsn() == "postgresql://u:first@h:1/db"
        secret.write_text("p@ss/w:rd?", encoding="utf-8")
        assert config.database.resolved_dsn() == "postgresql://u:p%40ss%2Fw%3Ard%3F@h:1/db"

    def test_a_missing_file_is_a_mistake(self, tmp_path: Path) -> None:
        config = parse({"database": {"dsn_file": "nowhere"}}, {}, base=tmp_path)
        assert config.database is not None
        with pytest.raises(ConfigError, match="cannot be read"):
            config.database.resolved_dsn()

    def test_are_not_printed(self) -> None:
        feed = {"exchange": "a", "symbols": ["X"], "options": {"apiKey": "CANARY", "secret": "CANARY", "depth": 5}}
        document = {
            "database": {"dsn": "postgresql://u:CANARY@h/db"},
            "redis": {"url": "redis://:CANARY@h:6379/0"},
            "feeds": [feed],
        }
        shown = effective(parse(document, {}))
        assert "CANARY" not in str(shown)
        assert shown["feeds"][0]["options"]["depth"] == 5

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="@"), min_size=8))
    def test_a_password_never_survives_redaction(self, password: str) -> None:
        shown = dsn.shown(f"postgresql://user:{password}@host/db")
        assert shown in ("postgresql://user:***@host/db", "***")

    @given(password=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
    def test_any_password_fits_into_a_dsn(self, password: str) -> None:
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(dsn.changed("postgresql://user@host:5432/db?sslmode=require", password=password))
        assert (parts.username, unquote(parts.password or ""), parts.hostname, parts.port) == (
            "user",
            password,
            "host",
            5432,
        )
        assert (parts.path, parts.query) == ("/db", "sslmode=require")


class TestSymbolFiles:
    def test_are_merged_without_doubles(self, tmp_path: Path) -> None:
        (tmp_path / "s.txt").write_text("# mine\nETH/USDT # too\n\nBTC/USDT\n", encoding="utf-8")
        feed = {"exchange": "binance", "symbols": ["BTC/USDT"], "symbols_file": "s.txt"}
        assert parse({"feeds": [feed]}, {}, base=tmp_path).feeds[0].symbols == ["BTC/USDT", "ETH/USDT"]

    @pytest.mark.parametrize("name", ["s.txt", "s\x00.txt", "\ud800"])
    def test_one_that_cannot_be_read_is_a_mistake(self, tmp_path: Path, name: str) -> None:
        document = {"feeds": [{"exchange": "binance", "symbols_file": name}]}
        with pytest.raises(ConfigError) as caught:
            parse(document, {}, base=tmp_path)
        assert [problem.path for problem in caught.value.problems] == ["feeds[0].symbols_file"]


class TestListen:
    @pytest.mark.parametrize(
        ("listen", "host", "port"),
        [("127.0.0.1:9108", "127.0.0.1", 9108), ("[::1]:80", "::1", 80), ("localhost:0", "localhost", 0)],
    )
    def test_is_a_host_and_a_port(self, listen: str, host: str, port: int) -> None:
        http = parse({"http": {"listen": listen}}, {}).http
        assert (http.host, http.port) == (host, port)

    @pytest.mark.parametrize("listen", ["9108", "localhost", ":9108", "host:port"])
    def test_is_nothing_else(self, listen: str) -> None:
        assert [problem.path for problem in problems_of({"http": {"listen": listen}})] == ["http.listen"]


def test_a_port_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"http: the port must be at most 65535"):
        parse({"http": {"listen": "127.0.0.1:70000"}}, {})


def test_a_number_from_the_environment_can_be_a_text() -> None:
    assert parse({}, {"INGESTD_INSTANCE__NAME": "7"}).instance.name == "7"
