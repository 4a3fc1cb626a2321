"""`ingestd connections`, from the new key to the end of its rotation, and what it never prints."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.applications import Keys, read_connection, read_key
from ingestd.cli import main
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest

Told = Callable[..., tuple[int, str]]

KEY, SECRET = "pub-4711Zx9qKey", "sec-4711Zx9qSecret"
GIVEN = f'apiKey = "{KEY}"\nsecret = "{SECRET}"\n'


@pytest.fixture
def told(
    postgres_database: DatabaseForTest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> Told:
    """Run a command with these keys configured and a text on standard input: its exit code, and all it printed."""

    def run(*arguments: str, stdin: str | None = "", keys: str = "") -> tuple[int, str]:
        file = tmp_path / "ingestd.toml"
        section = f"[connections]\n{keys}\n" if keys else ""
        file.write_text(f'[database]\ndsn = "{postgres_database.dsn}"\npacks = ["platform"]\n{section}')
        given = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin.encode()))  # None: closed, `<&-`
        monkeypatch.setattr("sys.stdin", given)
        with pytest.raises(SystemExit) as ended:
            main([*arguments] if "new-key" in arguments else [*arguments, "-c", str(file)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        assert "4711Zx9q" not in printed.out + printed.err
        return int(ended.value.code or 0), printed.out + printed.err

    return run


def asked(database: DatabaseForTest, sql: str) -> Any:
    async def ask() -> Any:
        db = await Database.connect(database.dsn)
        try:
            return await db.fetchval(sql) if sql.startswith("SELECT") else await db.execute(sql)
        finally:
            await db.close()

    return asyncio.run(ask())


def credentials(database: DatabaseForTest, connection_id: int, key_file: Path) -> tuple[str, str]:
    async def read() -> tuple[str, str]:
        db = await Database.connect(database.dsn)
        try:
            found = await read_connection(db, Keys(read_key(key_file, "x")), connection_id)
        finally:
            await db.close()
        assert found is not None
        return found.credentials.api_key, found.credentials.api_secret

    return asyncio.run(read())


def test_from_the_first_key_to_the_second(postgres_database: DatabaseForTest, told: Told, tmp_path: Path) -> None:
    code, said = told("connections", "list")
    assert code == 1
    assert 'put packs = ["platform"] into [database], and run `ingestd migrate -c FILE`' in said
    assert told("migrate", "--engine", "postgres")[0] == 0
    asked(
        postgres_database,
        "INSERT INTO platform.users (id, username, email, password_hash) VALUES (7, 'alice', 'a@example.org', '-')",
    )
    first, second = tmp_path / "first.key", tmp_path / "second.key"
    for file in (first, second):
        code, said = told("connections", "new-key", str(file))
        assert code == 0
        assert file.read_text().strip() not in said
    old, new = f'key_file = "{first}"', f'key_file = "{second}"\nother_key_files = ["{first}"]'
    put = ["connections", "put", "--user", "alice", "--exchange", "binance"]
    assert told("connections", "list", keys=old) == (0, "There is no connection.\n")
    assert told(*put, stdin=GIVEN, keys=old) == (0, "stored connection 1: binance of alice\n")
    two_of_three = '\ufeffapiKey = "a"\r\nsecret = "b"\r\npassword = "4711Zx9q"\r\n'
    assert told(*put, stdin=two_of_three, keys=old) == (
        0,
        "stored connection 2: binance of alice\n"
        "ingestd: 1 further value not stored: the table has apiKey and secret only\n",
    )
    for unknown in ("nobody", "\udcff"):
        code, said = told(*put, "--user", unknown, stdin=GIVEN, keys=old)
        assert code == 2
        assert "--user: platform.users has no such username" in said
    code, said = told("connections", "remove", "--yes", str(2**31))
    assert code == 2
    assert f"{2**31} is not in the range" in said
    assert credentials(postgres_database, 1, first) == (KEY, SECRET)
    assert told("connections", "replace", "2", stdin=GIVEN, keys=old)[0] == 0
    assert told("connections", "rotate", keys=f'key_file = "{second}"')[0] == 1  # the old key is missing
    assert credentials(postgres_database, 1, first) == (KEY, SECRET)
    code, said = told("connections", "rotate", "--json", keys=new)
    assert code == 0
    assert json.loads(said.splitlines()[0]) == {
        "key": read_key(second, "x").id.hex(), "again": 2, "already": 0, "unreadable": 0, "reasons": [],
    }  # fmt: skip
    assert credentials(postgres_database, 2, second) == (KEY, SECRET)
    code, said = told("connections", "rotate", keys=new)
    assert code == 0
    assert "0 connections encrypted with it now, 2 had it already, 0 cannot be read" in said
    code, said = told("connections", "list", "--json", keys=new)
    listed = json.loads(said)["connections"]
    assert [(one["id"], one["user_id"], one["exchange"]) for one in listed] == [(1, 7, "binance"), (2, 7, "binance")]
    _, said = told("connections", "list")  # needs no key
    assert read_key(second, "x").id.hex() in said
    assert told("connections", "remove", "1", "--yes")[0] == 0
    assert told("connections", "remove", "1", "--yes")[0] == 2
    assert asked(postgres_database, "SELECT array_agg(id) FROM platform.exchange_connections") == [2]


@pytest.mark.parametrize(
    ("arguments", "stdin", "keys", "said"),
    [
        ((), GIVEN, "", "connections.key_file: names no file; make one with `ingestd connections new-key FILE`"),
        (
            (),
            GIVEN,
            'key_file = "{0}/short"',
            "short cannot be used as a key: it is too short, 62 hexadecimal digits instead of 64",
        ),
        (
            (),
            GIVEN,
            'key_file = "{0}/open"',
            "open cannot be used as a key: its mode 0644 lets others read or change it: chmod 600",
        ),
        ((), GIVEN, 'key_file = "{0}/none"', "none cannot be read: no such file"),
        (
            (),
            "apiKey = 'sec-4711Zx9qSecret",
            'key_file = "{0}/good"',
            "standard input: does not hold an API key and its secret; write",
        ),
        (
            (),
            'apiKey = "sec-4711Zx9qSecret"',
            'key_file = "{0}/good"',
            "standard input: does not hold an API key and its secret; write",
        ),
        ((), "x" * 70_000, 'key_file = "{0}/good"', "standard input: does not hold an API key and its secret; write"),
        (
            (),
            "a=" + "[" * 20_000,
            'key_file = "{0}/good"',
            "standard input: does not hold an API key and its secret; write",
        ),
        ((), None, 'key_file = "{0}/good"', "standard input: does not hold an API key and its secret; write"),
        ((), 'apiKey = "  "\nsecret = "b"', 'key_file = "{0}/good"', "standard input: does not hold an API key"),
        (
            (),
            f'apiKey = "a"\nsecret = "{"4711Zx9q" * 1025}"',
            'key_file = "{0}/good"',
            "standard input: a secret has at most 8192 bytes",
        ),
        (("--exchange", "a b"), GIVEN, 'key_file = "{0}/good"', "--exchange: must be an exchange id of ccxt"),
        (("--exchange", "a" * 129), GIVEN, 'key_file = "{0}/good"', "--exchange: must have at most 128 characters"),
    ],
)
def test_one_clear_message_and_nothing_stored(
    told: Told, tmp_path: Path, arguments: tuple[str, ...], stdin: str | None, keys: str, said: str
) -> None:
    for name, text, mode in (("short", "0123abcdef" * 6 + "01", 0o600), ("open", "", 0o644)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    told("connections", "new-key", str(tmp_path / "good"))
    put = ["connections", "put", "--user", "alice", "--exchange", "binance", *arguments]
    code, printed = told(*put, stdin=stdin, keys=keys.format(tmp_path))
    assert code == 2
    (line,) = printed.splitlines()[:1]
    assert said in line


def test_check_notes_a_key_that_cannot_be_used(told: Told, tmp_path: Path) -> None:
    """A note, since no daemon needs it."""
    feeds = '[[feeds]]\nexchange = "binance"\nsymbols = ["BTC/USDT"]\nchannels = ["trades"]'
    state = f'[instance]\nstate_dir = "{tmp_path}"'
    code, said = told("check", keys=f'key_file = "{tmp_path}/none"\n{state}\n{feeds}')
    assert code == 0
    assert f"ingestd: note: connections.key_file: {tmp_path}/none cannot be read: no such file" in said
    told("connections", "new-key", str(tmp_path / "good"))
    assert "connections.key_file:" not in told("check", keys=f'key_file = "{tmp_path}/good"\n{state}\n{feeds}')[1]
