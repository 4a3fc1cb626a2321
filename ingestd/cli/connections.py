"""`ingestd connections`: stores, lists and removes credentials of exchange connections, and rotates their key."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC
from pathlib import Path
from typing import TypeVar

import click
import orjson

from ingestd.applications import connections as stored
from ingestd.applications.connections import Credentials, Listed, Rotated
from ingestd.applications.keys import Keys, keys_of, write_new_key
from ingestd.applications.sealing import LONGEST_SECRET_BYTES
from ingestd.cli.database_address import Address, dsn_option
from ingestd.cli.options import Integer, json_option, later_config_option
from ingestd.cli.say import counted, say, say_json, say_progress
from ingestd.cli.signals import run_to_its_end
from ingestd.config.models import Config
from ingestd.config.secrets import hide
from ingestd.config.values import EXCHANGE_ID, PATTERN_MESSAGES
from ingestd.errors import ConfigError, Problem
from ingestd.printable import printable
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database

Result = TypeVar("Result")

_CALL_TIMEOUT_S = 60.0
_LONGEST_INPUT_BYTES = 64 * 1024
_PAGE_ROWS = 1000
_ID = Integer(min=-(2**31), max=2**31 - 1)
_FORM = "write TOML with the two texts apiKey and secret, as a feed's credentials_file has them"


@click.group()
@later_config_option
@dsn_option
@click.pass_context
def connections(context: click.Context, config_file: Path | None, dsn: str | None) -> None:
    """Store and rotate the credentials of exchange connections.

    They are rows of platform.exchange_connections (the pack platform), encrypted with the key of [connections].
    """
    context.obj = Address(config_file, dsn)


@connections.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
def new_key(file: Path) -> None:
    """Write a new random key to FILE, which only you may read. An existing file is not replaced."""
    say(f"{file}: the key {write_new_key(file).id.hex()}")


@connections.command("list")
@later_config_option
@dsn_option
@json_option
@click.pass_obj
def list_(of_group: Address, config_file: Path | None, dsn: str | None, as_json: bool) -> None:
    """List the connections: whose, of which exchange, encrypted with which key. No secrets."""
    listed = _with_database(Address(config_file, dsn).or_of(of_group).config(), _all)
    if as_json:
        say_json(orjson.dumps({"connections": [asdict(one) for one in listed]}, option=orjson.OPT_UTC_Z))
    else:
        say(to_text(listed) if listed else "There is no connection.")


@connections.command()
@later_config_option
@dsn_option
@click.option("--user", required=True, help="The username of its owner, as platform.users has it.")
@click.option("--exchange", required=True, help="The exchange id, such as binance.")
@click.pass_obj
def put(of_group: Address, config_file: Path | None, dsn: str | None, user: str, exchange: str) -> None:
    """Store a connection. Asks for API key and secret, or reads them as TOML from standard input.

    The TOML is that of a feed's credentials_file: apiKey = "…" and secret = "…".
    """
    config = Address(config_file, dsn).or_of(of_group).config()
    _require_exchange(exchange)
    keys, credentials = keys_of(config.connections), _credentials()
    new_id = _with_database(config, lambda db: _put(db, keys, user, exchange, credentials))
    say(f"stored connection {new_id}: {exchange} of {printable(user)}")


@connections.command()
@later_config_option
@dsn_option
@click.argument("connection_id", type=_ID, metavar="ID")
@click.pass_obj
def replace(of_group: Address, config_file: Path | None, dsn: str | None, connection_id: int) -> None:
    """Replace the credentials of the connection ID. Asks for the new ones, or reads them, as `put` does."""
    config = Address(config_file, dsn).or_of(of_group).config()
    keys, credentials = keys_of(config.connections), _credentials()
    if not _with_database(config, lambda db: stored.replace_credentials(db, keys, connection_id, credentials)):
        raise _unknown(connection_id)
    say(f"replaced the credentials of connection {connection_id}")


@connections.command()
@later_config_option
@dsn_option
@click.argument("connection_id", type=_ID, metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def remove(of_group: Address, config_file: Path | None, dsn: str | None, connection_id: int, yes: bool) -> None:
    """Delete the connection ID."""
    config = Address(config_file, dsn).or_of(of_group).config()
    if not yes:
        click.confirm(f"Delete connection {connection_id} with its credentials?", abort=True)
    if not _with_database(config, lambda db: stored.remove_connection(db, connection_id)):
        raise _unknown(connection_id)
    say(f"removed connection {connection_id}")


@connections.command()
@later_config_option
@dsn_option
@json_option
@click.pass_obj
def rotate(of_group: Address, config_file: Path | None, dsn: str | None, as_json: bool) -> None:
    """Encrypt every connection with the key of connections.key_file.

    Works in batches and may be interrupted: a second run does the rest. Exits with 1 if a connection cannot be read
    with any of the configured keys; it stays as it is.
    """
    config = Address(config_file, dsn).or_of(of_group).config()
    keys = keys_of(config.connections)
    done = _with_database(config, lambda db: stored.rotate(db, keys, _tell))
    if as_json:
        say_json(orjson.dumps({"key": keys.writing.id.hex(), **asdict(done)}))
    else:
        for reason in done.reasons:
            say(f"ingestd: {reason}", err=True)
        say(f"key {keys.writing.id.hex()}: {summary(done)}")
    if done.unreadable:
        raise SystemExit(1)


def to_text(listed: list[Listed]) -> str:
    """One line for each connection, under a header."""
    table = [("id", "user", "exchange", "active", "updated (UTC)", "key")]
    for one in listed:
        key_ids = dict.fromkeys(key_id or "not encrypted by ingestd" for key_id in one.key_ids)
        updated = "" if one.updated_at is None else f"{one.updated_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        user = "" if one.user_id is None else str(one.user_id)
        active = "yes" if one.is_active else "no"
        table.append((str(one.id), user, printable(one.exchange), active, updated, ", ".join(key_ids)))
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in table
    )


def summary(done: Rotated) -> str:
    """The counts of a rotation in words."""
    again = f"{counted(done.again, 'connection')} encrypted with it now"
    return f"{again}, {done.already} had it already, {done.unreadable} cannot be read"


def _tell(done: Rotated) -> None:
    say_progress(summary(done))


async def _all(db: Database) -> list[Listed]:
    found = page = await stored.list_connections(db, limit=_PAGE_ROWS)
    while len(page) == _PAGE_ROWS:
        page = await stored.list_connections(db, page[-1].id, _PAGE_ROWS)
        found = [*found, *page]
    return found


async def _put(db: Database, keys: Keys, user: str, exchange: str, credentials: Credentials) -> int:
    user_id = await stored.user_of(db, user) if user.isprintable() else None
    if user_id is None:
        raise ConfigError([Problem("--user", "platform.users has no such username", repr(user))])
    return await stored.put_connection(db, keys, user_id, exchange, credentials)


def _require_exchange(exchange: str) -> None:
    if re.fullmatch(EXCHANGE_ID, exchange) is None:
        raise ConfigError([Problem("--exchange", PATTERN_MESSAGES[EXCHANGE_ID], repr(exchange))])
    if len(exchange) > stored.LONGEST_NAME:
        raise ConfigError([Problem("--exchange", f"must have at most {stored.LONGEST_NAME} characters")])


def _unknown(connection_id: int) -> ConfigError:
    hint = "`ingestd connections list` lists them"
    return ConfigError([Problem("ID", "there is no such connection", str(connection_id), hint)])


def _credentials() -> Credentials:
    """Asked for on the terminal, unseen, or read from standard input: never an argument, which all users can list."""
    given: dict[str, object]
    if sys.stdin is not None and sys.stdin.isatty():
        given = {name: click.prompt(asked, hide_input=True, err=True) for name, asked in _ASKED.items()}
    else:
        given = _from_input()
    values = [given.get(name) for name in _ASKED]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise ConfigError([Problem("standard input", "does not hold an API key and its secret", hint=_FORM)])
    key, secret = map(str, values)
    for value in (key, secret):
        hide(value)
        if len(value.encode(errors="replace")) > LONGEST_SECRET_BYTES:
            raise ConfigError([Problem("standard input", f"a secret has at most {LONGEST_SECRET_BYTES} bytes")])
    if left_out := len(given) - len(_ASKED):
        # Not named: who has confused both sides of the = has a secret as a name.
        say(f"ingestd: {counted(left_out, 'further value')} not stored: the table has apiKey and secret only", err=True)
    return Credentials(key, secret)


def _from_input() -> dict[str, object]:
    """The TOML on standard input; empty if there is none. No error is shown, since it could quote the secret."""
    data = b"" if sys.stdin is None else sys.stdin.buffer.read(_LONGEST_INPUT_BYTES + 1)
    if len(data) > _LONGEST_INPUT_BYTES:
        return {}
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        return {}


_ASKED = {"apiKey": "API key", "secret": "API secret"}


def _with_database(config: Config, work: Callable[[Database], Awaitable[Result]]) -> Result:
    async def connected() -> Result:
        database = await DatabaseAccess(config).connect(call_timeout_s=_CALL_TIMEOUT_S)
        try:
            return await work(database)
        finally:
            await database.close()

    return run_to_its_end(connected())
