"""`ingestd check`: the effective configuration, or every mistake in the file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ingestd.cli.check import check
from ingestd.cli.loading import load_checked
from ingestd.config import loading as configuration
from ingestd.config.models import FeedConfig
from ingestd.config.section import effective
from ingestd.config.toml_text import to_toml
from ingestd.errors import ConfigError, Problem

EXAMPLE = Path(__file__).parents[3] / "config" / "ingestd.toml"


@pytest.fixture(autouse=True)
def catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange catalog of one exchange: these tests are about the command, not about the exchanges."""

    def check_feeds(feeds: Sequence[FeedConfig]) -> list[Problem]:
        return [
            Problem(
                f"feeds[{index}].exchange", "there is no such exchange", repr(feed.exchange), 'did you mean "kraken"?'
            )
            for index, feed in enumerate(feeds)
            if feed.exchange not in ("kraken", "binance")
        ]

    monkeypatch.setattr("ingestd.feeds.catalog.check", check_feeds)


def write(folder: Path, text: str) -> Path:
    file = folder / "ingestd.toml"
    file.write_text(text, encoding="utf-8")
    return file


# The least that a daemon can do something with.
SOUND = '[database]\ndsn = "postgresql://u@h/d"\n[[feeds]]\nexchange = "kraken"\nsymbols = ["BTC/USD"]\n'


def test_what_is_printed_is_toml_with_the_same_meaning() -> None:
    result = CliRunner().invoke(check, ["-c", str(EXAMPLE)])
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout) == effective(configuration.load(EXAMPLE, {}))


def test_sections_are_in_the_order_of_the_example() -> None:
    result = CliRunner().invoke(check, ["-c", str(EXAMPLE)])
    assert list(tomllib.loads(result.stdout)) == list(tomllib.loads(EXAMPLE.read_text(encoding="utf-8")))


def test_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTD_HTTP__LISTEN", "0.0.0.0:1234")
    result = CliRunner().invoke(check, ["-c", str(write(tmp_path, SOUND))])
    assert tomllib.loads(result.stdout)["http"] == {"listen": "0.0.0.0:1234"}


def test_secrets_are_not_printed(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [database]
        dsn = "postgresql://u:CANARY1@h/db"
        [redis]
        url = "redis://:CANARY2@h"
        [[feeds]]
        exchange = "kraken"
        symbols = ["BTC/USD"]
        options = { apiKey = "CANARY3", headers = { "X-API-Key" = "CANARY4" } }
        url_map = { "wss://a" = "wss://u:CANARY5@b" }
        """,
    )
    for options in ([], ["--json"]):
        result = CliRunner().invoke(check, ["-c", str(file), *options])
        assert result.exit_code == 0
        assert "CANARY" not in result.output


MISTAKES = """
[jornal]
[[feeds]]
exchange = "kraken"
symbols = ["BTC/USD"]
chanels = ["trades"]
[[feeds]]
exchange = "krakn"
symbols = ["BTC/USD"]
"""


def test_every_mistake_is_found_at_once_the_exchanges_included(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_checked(write(tmp_path, MISTAKES))
    assert {(problem.path, problem.hint) for problem in caught.value.problems} == {
        ("jornal", 'did you mean "journal"?'),
        ("feeds[0].chanels", 'did you mean "channels"?'),
        ("feeds[1].exchange", 'did you mean "kraken"?'),
    }


def test_mistakes_as_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(check, ["-c", str(write(tmp_path, MISTAKES)), "--json"])
    assert result.exit_code == 2
    shown = json.loads(result.stdout.splitlines()[-1])
    assert shown["ok"] is False
    assert {"path", "message", "value", "hint"} == set(shown["problems"][0])
    assert len(shown["problems"]) == 3


def test_a_sound_file_as_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(check, ["-c", str(write(tmp_path, SOUND)), "--json"])
    shown = json.loads(result.stdout.splitlines()[-1])
    assert shown["ok"] is True
    assert shown["config"]["instance"]["role"] == "all"


AGGREGATES = 'options = { watchTradesForSymbols = { name = "aggTrade" } }'


@pytest.mark.parametrize(
    ("feed", "more", "noted"),
    [
        ('exchange = "binanceusdm"\nsymbols = ["BTC/USDT:USDT"]', "", True),
        ('exchange = "binancecoinm"\nsymbols = ["*"]', "", True),
        ('exchange = "binance"\nsymbols = ["BTC/USDT", "BTC/USDT:USDT"]', "", True),
        ('exchange = "binanceusdm"\nsymbols = ["BTC/USDT:USDT"]\nchannels = ["ticks"]', "", False),
        (f'exchange = "binanceusdm"\nsymbols = ["BTC/USDT:USDT"]\n{AGGREGATES}', "", False),
        ('exchange = "binanceusdm"\nsymbols = ["BTC/USDT:USDT"]', "[backfill]\nenabled = false\n", False),
        ('exchange = "binance"\nsymbols = ["BTC/USDT"]', "", False),
        ('exchange = "kraken"\nsymbols = ["BTC/USD"]', "", False),
    ],
)
def test_a_stream_whose_gaps_are_hard_to_fill_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: str, more: str, noted: bool
) -> None:
    monkeypatch.setattr("ingestd.feeds.catalog.check", lambda _: [])
    file = write(tmp_path, f"{more}[kafka]\n[[feeds]]\n{feed}\n")
    result = CliRunner().invoke(check, ["-c", str(file)])
    assert result.exit_code == 0
    assert ("feeds[0].options" in result.stderr and "aggTrade" in result.stderr) is noted
    assert tomllib.loads(result.stdout)["feeds"]
    shown = json.loads(CliRunner().invoke(check, ["-c", str(file), "--json"]).stdout.splitlines()[-1])
    assert [note["path"] for note in shown["notes"]] == (["feeds[0].options"] if noted else [])


def test_an_exchange_nobody_knows_is_a_mistake(tmp_path: Path) -> None:
    file = write(tmp_path, '[[feeds]]\nexchange = "krakn"\nsymbols = ["BTC/USD"]\n')
    with pytest.raises(ConfigError, match=r"feeds\[0\]\.exchange: there is no such exchange"):
        load_checked(file)


def test_without_a_file_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ingestd.cli.options.DEFAULT_CONFIG", tmp_path / "none.toml")
    result = CliRunner().invoke(check, [])
    assert result.exit_code == 2
    assert "give -c FILE" in result.output


def test_the_systems_own_file_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ingestd.cli.options.DEFAULT_CONFIG", write(tmp_path, "[intake]\nlinger_ms = 7\n" + SOUND))
    assert "linger_ms = 7" in CliRunner().invoke(check, []).stdout


TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
SCALAR = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


@given(st.dictionaries(TEXT, VALUE | st.dictionaries(TEXT, VALUE, max_size=3), max_size=4))
def test_any_document_reads_back_as_it_was(document: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(document)) == document


def test_what_migrate_and_run_would_refuse_is_found_here(tmp_path: Path) -> None:
    text = '[database]\ndsn = "mysql://localhost/x"\n[retention]\ncandles_1d_days = 5\n'
    with pytest.raises(ConfigError) as caught:
        load_checked(write(tmp_path, text))
    paths = {problem.path for problem in caught.value.problems}
    assert {"database.dsn", "retention.candles_1d_days"} <= paths


def test_a_symbol_in_the_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = r"BTC/\u202eUSDT\u009b2J\u001b[31m\U000E0041"
    file = write(tmp_path, f'[instance]\nstate_dir = "{tmp_path}{evil}"\n{SOUND}')
    for arguments in ([], ["--json"]):
        result = CliRunner().invoke(check, ["-c", str(file), *arguments])
        printed = result.output + result.stderr
        assert all(character.isprintable() or character == "\n" for character in printed)
    assert "202e" in result.stdout


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o640, 0o600])
def test_a_secret_that_everybody_may_read_is_noted(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("password", "dsn", "key.pem", "cert.pem", "ca.pem"):
        (tmp_path / name).write_text("postgresql://u@h/d")
        (tmp_path / name).chmod(mode)
    feeds = SOUND.partition('d"\n')[2]
    kafka = '[kafka]\ntls = true\ncertificate_file = "cert.pem"\nkey_file = "key.pem"\nca_file = "ca.pem"\n'
    file = write(tmp_path, f'[database]\ndsn_file = "dsn"\npassword_file = "password"\n{kafka}{feeds}')
    file.chmod(0o644)
    noted = CliRunner().invoke(check, ["-c", str(file)]).stderr
    shown = {"dsn", "password", "key.pem"} if mode & 0o004 else set()
    assert {path.name for path in tmp_path.iterdir() if f"chmod o-rwx {path}" in noted} == shown

    file = write(tmp_path, '[database]\ndsn = "postgresql://u:pw@h/d?sslkey=key.pem"\n' + feeds)
    file.chmod(mode)
    noted = CliRunner().invoke(check, ["-c", str(file)]).stderr
    assert (f"chmod o-rwx {file}" in noted) is bool(mode & 0o004)

    file = write(tmp_path, SOUND)
    file.chmod(0o644)
    monkeypatch.setenv("INGESTD_DATABASE__DSN", "postgresql://u:pw@h/d")
    assert "chmod" not in CliRunner().invoke(check, ["-c", str(file)]).stderr
