"""`ingestd init`: what it writes is what `check` accepts, and nobody loses a file or a password by it."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingestd.cli import cli
from ingestd.cli.loading import load_runnable
from ingestd.errors import ConfigError
from ingestd.feeds.ccxt.tap import exchange_ids
from ingestd.service import Service

SECRET = "postgresql://u:gr%C3%BCn%22%5C%27%20pw@h:5433/market"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments])


def written(*arguments: str) -> dict[str, Any]:
    result = init(*arguments)
    assert result.exit_code == 0, result.output
    return tomllib.loads(Path("ingestd.toml").read_text(encoding="utf-8"))


def test_what_it_writes_is_accepted_and_a_daemon_is_made_of_it(here: Path) -> None:
    document = written()
    assert [feed["exchange"] for feed in document["feeds"]] == ["binance"]
    checked = CliRunner().invoke(cli, ["check", "-c", "ingestd.toml"])
    assert checked.exit_code == 0
    assert checked.stderr == "ingestd: ok: 1 feed, 1 symbol; sinks: database\n"
    Service(load_runnable(here / "ingestd.toml"))
    text = (here / "ingestd.toml").read_text(encoding="utf-8")
    assert text.count("#") > 10
    assert max(map(len, text.splitlines())) <= 120


def test_it_writes_what_was_asked_for() -> None:
    document = written(
        "--exchange", "kraken", "--exchange", "bybit", "--symbols", "BTC/USD, ETH/USD", "--symbols", "*/USDT",
        "--dsn", "postgresql://db/market",
    )  # fmt: skip
    assert [feed["exchange"] for feed in document["feeds"]] == ["kraken", "bybit"]
    assert [feed["symbols"] for feed in document["feeds"]] == [["BTC/USD", "ETH/USD", "*/USDT"]] * 2
    assert document["database"]["dsn"] == "postgresql://db/market"


def test_every_exchange_has_a_first_configuration() -> None:
    keyed = {"alpaca", "luno"}  # they serve nothing without an API key
    names = [name for name in exchange_ids() if name not in keyed]
    document = written(*(argument for name in names for argument in ("--exchange", name)))
    assert [feed["exchange"] for feed in document["feeds"]] == names
    assert CliRunner().invoke(cli, ["check", "-c", "ingestd.toml"]).exit_code == 0


@pytest.mark.parametrize("name", ["BINANCE", "binnance"])
def test_an_exchange_that_is_none_is_refused_with_the_nearest(name: str, here: Path) -> None:
    result = init("--exchange", name)
    assert isinstance(result.exception, ConfigError)
    assert 'did you mean "binance"?' in str(result.exception)
    assert list(here.iterdir()) == []


def test_a_password_is_nobody_elses_and_is_not_printed(here: Path) -> None:
    result = init("--dsn", SECRET)
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE((here / "ingestd.toml").stat().st_mode) == 0o600
    assert "gr%" not in result.output + result.stderr
    assert tomllib.loads((here / "ingestd.toml").read_text(encoding="utf-8"))["database"]["dsn"] == SECRET


def test_a_dsn_that_is_none_is_refused_and_nothing_is_written(here: Path) -> None:
    result = init("--dsn", "mysql://u@h/d")
    assert isinstance(result.exception, ConfigError)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("there", ["file", "dangling link"])
def test_what_is_there_is_replaced_by_force_only(there: str, here: Path) -> None:
    path = here / "ingestd.toml"
    path.symlink_to(here / "elsewhere") if there == "dangling link" else path.write_text("mine", encoding="utf-8")
    result = init()
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert not (here / "elsewhere").exists()
    assert init("--force", "--exchange", "okx").exit_code == 0
    assert 'exchange = "okx"' in path.read_text(encoding="utf-8")
    assert not path.is_symlink()
    assert [entry.name for entry in here.iterdir()] == ["ingestd.toml"]


def test_standard_output_gets_the_file_and_nothing_else(here: Path) -> None:
    result = init("-o", "-", "--symbols", "BTC/USDT")
    assert tomllib.loads(result.stdout)["feeds"][0]["symbols"] == ["BTC/USDT"]
    assert list(here.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(here: Path) -> None:
    file, folder = here / "none" / "ingestd.toml", here / "none"
    result = init("-o", str(file))
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"{file}: the folder {folder} does not exist; create it: mkdir -p {folder}"


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("name", [".", "..", "/", "folder", "folder/", "none/"])
def test_a_directory_is_not_replaced(name: str, force: tuple[str, ...], here: Path) -> None:
    (here / "folder").mkdir()
    result = init("-o", name, *force)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(f"{name}: is a directory; ")
    assert [entry.name for entry in here.iterdir()] == ["folder"]


def test_no_name_of_a_file_is_refused(here: Path) -> None:
    result = init("-o", "", "--force")
    assert str(result.exception) == "--output: names no file"
    assert list(here.iterdir()) == []
