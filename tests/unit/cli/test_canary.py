"""A password is nowhere: not in what a command prints, whatever its form and whatever goes wrong, nor in its log."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from ingestd.cli import main
from ingestd.config.models import LogConfig
from ingestd.config.secrets import redact
from ingestd.config.toml_text import to_toml
from ingestd.errors import ConfigError
from ingestd.ops import logs
from ingestd.storage.dsn import describe_target
from tests.unit.config.test_dsn import CANARY, FORMS

COMMANDS = [
    ["check"],
    ["check", "--json"],
    ["migrate"],
    ["migrate", "--dry-run"],
    ["migrate", "status"],
    ["migrate", "down", "--to", "0", "--yes"],
    ["gaps"],
    ["doctor"],
    ["doctor", "--json"],
]
FEED = {"exchange": "binance", "symbols": ["BTC/USDT"], "channels": ["trades"]}
SASL = {"sasl_mechanism": "PLAIN", "password_file": __file__}
BASE: dict[str, Any] = {"kafka": {}, "feeds": [FEED]}

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `ingestd …` on this configuration: its exit code, and all that it printed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("ingestd.feeds.catalog.check", lambda _feeds: [])

    def run(document: dict[str, Any], *arguments: str) -> tuple[int, str]:
        file = tmp_path / "ingestd.toml"
        file.write_text(to_toml({"instance": {"state_dir": str(tmp_path)}, **BASE, **document}), encoding="utf-8")
        monkeypatch.setattr("ingestd.config.secrets.hidden", {})  # each command is a process of its own
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "-c", str(file)])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run


@pytest.mark.parametrize("form", FORMS)
def test_no_command_shows_the_password_of_a_dsn(command: Command, form: str) -> None:
    document = {"database": {"dsn": form.format(CANARY), "connect_timeout_s": 0.5}}
    accepted = command(document, "check")[0] == 0
    for arguments in COMMANDS:
        code, printed = command(document, *arguments)
        assert CANARY not in printed, arguments
        assert "Traceback" not in printed, arguments
        expected = 2 if not accepted else 0 if arguments[0] == "check" else 1
        assert code == expected, (arguments, printed)
    if not accepted:
        past = "backfill --exchange binance --symbol BTC/USDT --channel trades --from 2026-01-01"
        for arguments in (["run"], past.split()):
            code, printed = command(document, *arguments)
            assert (code, CANARY in printed, "Traceback" in printed) == (2, False, False)


@pytest.mark.parametrize(
    "document",
    [
        {"database": {"dsn": [f"postgresql://u:{CANARY}@h/db"]}},
        {"database": {"dsn": {"url": f"postgresql://u:{CANARY}@h/db"}}},
        {"database": {"url": f"postgresql://u:{CANARY}@h/db"}},
        {"database": {"dsn": "postgresql://u@h/db", "password": CANARY}},
        {"database": {"dsn": "postgresql://u@h/db", "flush_ms": f"postgresql://u:{CANARY}@h/db"}},
        {"database": f"postgresql://u:{CANARY}@h/db"},
        {"redis": {"url": f"u:{CANARY}@h:6379"}},
        {"redis": {"url": f"http://u:{CANARY}@h:6379"}},
        {"redis": {"url": f"redis://:{CANARY}@h:port/0"}},
        {"redis": {"url": f"redis://:p/{CANARY}@h:6379/0"}},
        {"redis": {"url": f"redis://:p#{CANARY}@h:6379/0"}},
        {"redis": {"url": f"redis://h:6379/{CANARY}"}},
        {"redis": {"url": f"redis://h:6379/0?{CANARY}=1"}},
        {"redis": {"url": f"redis://h:6379/0?db={CANARY}"}},
        {"redis": {"url": f"redis://h:6379/0?pasword={CANARY}"}},
        {"redis": {"url": f"redis+sentinel://u:{CANARY}@h:1,g:2"}},
        {"redis": f"redis://:{CANARY}@h:6379/0"},
        {"redis": {"url": f"redis://u%C2%A0password%3D{CANARY}@h:6379/0"}},
        {"redis": {"url": f"redis://u%C2%A0password%3D{CANARY}:p@h:6379/0"}},
        {"redis": {"url": f"redis://u\u00a0password={CANARY}@h:6379/0"}},
        {"redis": {"url": f"redis://u\u200bpassword={CANARY}:p@h:6379/0"}},
        {"redis": {"url": f"redis://h%C2%A0password%3D{CANARY}:6379/0"}},
        {"redis": {"url": f"redis://h:6379/0?username=u%C2%A0password%3D{CANARY}"}},
        {"redis": {"url": f"redis://h:6379/0?client_name=u%E3%80%80password%3D{CANARY}"}},
        {"redis": {"url": f"redis+sentinel://h:1,g:2/master%C2%A0password%3D{CANARY}"}},
        {"redis": {"url": f"unix:///run/redis.sock%C2%A0password%3D{CANARY}"}},
        {"kafka": {**SASL, "username": f"u\u00a0password={CANARY}"}},
        {"kafka": {**SASL, "username": f"u password={CANARY}"}},
        {"kafka": {"sasl_mechanism": f"PLAIN\u00a0password={CANARY}", "username": "u"}},
        {"kafka": {"group_id": f"g\u00a0password={CANARY}"}},
        {"kafka": {"bootstrap_servers": [f"h:9092\u00a0password={CANARY}"]}},
        {"kafka": {"bootstrap_servers": [f"u:{CANARY}@h:9092"]}},
        {"kafka": {"bootstrap_servers": [f"SASL_SSL://u:{CANARY}@h:9092"]}},
        {"kafka": {"bootstrap_servers": f"u:{CANARY}@h:9092"}},
        {"kafka": {"bootstrap_servers": [f"h:9092?password={CANARY}"]}},
        {"kafka": {"sasl_plain_password": CANARY}},
        {"kafka": {"username": "u", "password": CANARY}},
        {"feeds": [{**FEED, "options": CANARY}]},
        {"feeds": [{**FEED, "apiKey": CANARY, "secret": CANARY}]},
        {"feeds": [{**FEED, "url_map": {"wss://a": ["wss://u:" + CANARY]}}]},
        {"feeds": [{**FEED, "url_map": [f"wss://u:{CANARY}@h"]}]},
        {"http": {"listen": f"u:{CANARY}@h"}},
        {"instance": {"name": f"postgresql://u:{CANARY}@h/db"}},
    ],
)  # fmt: skip
def test_a_refused_configuration_shows_no_secret(command: Command, document: dict[str, Any]) -> None:
    for arguments in (["check"], ["check", "--json"], ["run"], ["migrate"], ["gaps"]):
        code, printed = command(document, *arguments)
        assert (code, CANARY in printed, "Traceback" in printed) == (2, False, False), (arguments, printed)


@pytest.mark.parametrize(
    "document",
    [
        {"redis": {"url": f"redis://:{CANARY}@h:6379/0"}},
        {"redis": {"url": f"redis://u:p@{CANARY}@h:6379/0"}},
        {"redis": {"url": f"rediss://h:6379/0?password={CANARY}&ssl_password={CANARY}"}},
        {"redis": {"url": f"redis://h:6379/0?passwor%64={CANARY}"}},
        {"redis": {"url": f"redis+sentinel://u:{CANARY}@h:1,g:2/master/0?sentinel_password={CANARY}"}},
        {"redis": {"url": f"unix://:{CANARY}@/run/redis.sock?db=1"}},
        {"feeds": [{**FEED, "options": {"apiKey": CANARY, "secret": CANARY, "password": CANARY}}]},
        {"feeds": [{**FEED, "options": {"headers": {"X-MBX-APIKEY": CANARY, "Authorization": CANARY}}}]},
        {"feeds": [{**FEED, "options": {"httpsProxy": f"http://u:{CANARY}@proxy:3128"}}]},
        {"feeds": [{**FEED, "options": {"socksProxy": f"socks5://{CANARY}@proxy:1080"}}]},
        {"feeds": [{**FEED, "options": {"proxies": [f"http://u:p/{CANARY}@proxy:3128"]}}]},
        {"feeds": [{**FEED, "options": {"endpoint": f"https://h/path?token={CANARY}"}}]},
        {"feeds": [{**FEED, "url_map": {"wss://a": f"wss://u:{CANARY}@b"}}]},
        {"feeds": [{**FEED, "url_map": {f"wss://u:{CANARY}@a": "wss://b"}}]},
    ],
)  # fmt: skip
def test_what_is_printed_and_logged_of_a_sound_configuration_shows_none(
    command: Command, document: dict[str, Any]
) -> None:
    for arguments in (["check"], ["check", "--json"]):
        code, printed = command(document, *arguments)
        assert (code, CANARY in printed) == (0, False), printed
    # A library quotes what it was given.
    assert CANARY not in redact(f"cannot connect: {document}")


def test_a_secret_of_the_environment_or_a_file_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGPASSWORD", "Of-The-Environment")
    assert describe_target("postgresql://u@h/db").places[0].password == "Of-The-Environment"
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pass"
    file.write_text("h:5432:*:u:Of-The-File\n", encoding="utf-8-sig")
    file.chmod(0o600)
    target = describe_target(f"postgresql://u@h/db?passfile={file}")
    assert target.places[0].password == "Of-The-File"
    stream = io.StringIO()
    logs.configure(LogConfig(format="json"), stream)
    try:
        raise ValueError(f"{target!r} Of-The-Environment, Of-The-File")
    except ValueError:
        structlog.get_logger().exception("failed", error="Of-The-File")
    assert "Of-The" not in stream.getvalue()
    assert json.loads(stream.getvalue())["error"] == "***"


@pytest.mark.parametrize("variable", ["PGUSER", "PGDATABASE"])
@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", " "])
def test_a_password_within_a_variable_is_refused(variable: str, blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, f"u{blank}password={CANARY}")
    with pytest.raises(ConfigError, match="has the name of a secret") as refused:
        describe_target("postgresql://h")
    assert CANARY not in str(refused.value)


def test_a_service_with_a_password_within_a_value_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "service.conf"
    file.write_text(f"[s]\nhost=h\nuser=u\u00a0password={CANARY}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="user has the name of a secret") as refused:
        describe_target(f"service=s servicefile={file}")
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("name", [f"u\u00a0password={CANARY}", f"u\u3000{CANARY}", f"u PGPASSWORD={CANARY}"])
def test_the_account_and_a_target_are_masked_in_doubt(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: name)
    for variable in ("PGUSER", "PGDATABASE"):
        monkeypatch.delenv(variable, raising=False)
    assert str(describe_target("postgresql://h")).endswith("database '***', user '***'")
