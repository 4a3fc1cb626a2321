"""What the command line says of an error, and the exit code it ends with."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd import cli
from ingestd.errors import ConfigError, FeedError, IngestdError, Problem, SchemaError

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
