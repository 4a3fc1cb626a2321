"""The command line as a process: exit codes, messages, and what it costs to ask for help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ingestd import __version__, cli
from ingestd.errors import ConfigError, FeedError, IngestdError, Problem, SchemaError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ingestd", *arguments], capture_output=True, text=True, timeout=60)


def test_the_version_is_printed() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"ingestd {__version__}\n")


def test_help_names_every_command_and_loads_none() -> None:
    code = (
        "import sys\nfrom ingestd.cli import cli\n"
        "try: cli.main(['--help'], prog_name='ingestd')\n"
        "except SystemExit: pass\n"
        "heavy = {'ccxt', 'asyncpg', 'aiohttp', 'aiokafka', 'redis', 'pydantic', 'structlog'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert all(f"  {name} " in result.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize(
    "arguments", [["fly"], ["check", "--fast"], ["check", "-c", "/nowhere/at/all.toml"], ["--colour", "check"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["status", "down"])
def test_a_command_of_migrate_has_its_help_and_its_configuration(command: str) -> None:
    result = run("migrate", command, "--help")  # without a configuration, which no one needs in order to ask
    assert result.returncode == 0, result.stderr
    assert "--config FILE" in result.stdout


@pytest.mark.parametrize("arguments", [["-c", "FILE", "status"], ["status", "-c", "FILE"]])
def test_migrate_takes_its_configuration_on_either_side_of_its_command(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "without a database.toml"
    file.write_text("")
    result = run("migrate", *(str(file) if part == "FILE" else part for part in arguments))
    assert (result.returncode, result.stderr) == (2, "ingestd: database: is missing; add [database] with a dsn\n")


def test_a_dry_run_of_a_status_is_refused() -> None:
    result = run("migrate", "--dry-run", "status")
    assert result.returncode == 2
    assert "status takes neither --dry-run nor --engine" in result.stderr


EVIL = "a\x1b[2Jb\rc\x00d\x9b31me\u202ef\u2066g\x7fh"


def ended(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main(["run"])
    assert isinstance(caught.value.code, int)
    return caught.value.code


CONFIG_ERROR = ConfigError([Problem("a.b", "is missing"), Problem("c.d", "unknown key", hint='did you mean "e"?')])


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (CONFIG_ERROR, 2, ["ingestd: a.b: is missing", 'ingestd: c.d: unknown key; did you mean "e"?']),
        (SchemaError("run ingestd migrate"), 1, ["ingestd: run ingestd migrate"]),
        (IngestdError(), 1, ["ingestd: IngestdError"]),
        (
            ExceptionGroup("tasks", [FeedError("one"), ExceptionGroup("inner", [CONFIG_ERROR])]),
            2,
            ["ingestd: one", "ingestd: a.b: is missing", 'ingestd: c.d: unknown key; did you mean "e"?'],
        ),
    ],
)
def test_what_ingestd_can_explain_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, lines: list[str]
) -> None:
    assert ended(monkeypatch, error) == code
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("bug"), ExceptionGroup("tasks", [FeedError("one"), ZeroDivisionError("bug")])]
)
def test_a_bug_shows_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert ended(monkeypatch, error) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "ZeroDivisionError: bug" in shown


def test_messages_carry_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    dsn = "postgresql://u:hunter2Zx9q@h/db"
    for error in (RuntimeError(dsn), SchemaError(f"cannot dial {dsn}")):
        ended(monkeypatch, error)
    assert "hunter2Zx9q" not in capsys.readouterr().err


def test_what_a_venue_or_a_server_says_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (SchemaError(EVIL), RuntimeError(EVIL), ConfigError([Problem("feeds[0]", EVIL, EVIL, EVIL)])):
        ended(monkeypatch, error)
        printed = capsys.readouterr().err
        assert "a?[2Jb?c" in printed
        assert all(character.isprintable() or character == "\n" for character in printed)


def test_every_command_prints_by_the_same_way() -> None:
    """Which is the one that leaves control characters out."""
    folder = Path(cli.__file__).parent
    printing = {file.name for file in folder.glob("*.py") if "click.echo(" in file.read_text(encoding="utf-8")}
    assert printing == {"say.py"}
