"""`ingestd check`: what a configuration comes to, or every mistake in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson

from ingestd import config as configuration
from ingestd.cli.options import config_option, json_option
from ingestd.cli.say import say, say_json
from ingestd.cli.toml_text import to_toml
from ingestd.config import Config
from ingestd.errors import ConfigError, Problem
from ingestd.ops.logs import redact, redact_value


@click.command()
@config_option
@json_option
def check(config_file: Path, as_json: bool) -> None:
    """Check a configuration and print what it comes to.

    Prints the effective configuration: defaults filled in, environment overrides applied, symbol files merged, secrets
    as ***. What could be better is a note on standard error. Where something is wrong, prints every mistake and ends
    with exit code 2. Opens no connection.
    """
    try:
        config = load_checked(config_file)
    except ConfigError as error:
        if not as_json:
            raise
        say_json(orjson.dumps({"ok": False, "problems": [_shown(problem) for problem in error.problems]}))
        raise SystemExit(2) from error
    effective = redact_value(configuration.effective(config))
    notes = _notes(config)
    if as_json:
        say_json(orjson.dumps({"ok": True, "config": effective, "notes": [_shown(note) for note in notes]}))
        return
    say(to_toml(effective), nl=False)
    for note in notes:
        say(f"ingestd: note: {note}", err=True)


def load_checked(config_file: Path) -> Config:
    """The configuration, checked against what the exchanges offer too. Raises ConfigError with every mistake."""
    try:
        config = configuration.load(config_file)
    except ConfigError as error:
        known = {problem.path for problem in error.problems}
        also = [problem for problem in _problems_of_sound_feeds(config_file) if problem.path not in known]
        raise ConfigError([*error.problems, *also]) from error
    problems = [*_check_database(config), *_check_feeds(config)]
    if problems:
        raise ConfigError(problems)
    return config


def _check_database(config: Config) -> list[Problem]:
    """What can be said of the database's settings without a connection."""
    from ingestd.storage.candles import require_room
    from ingestd.storage.dsn import describe_target

    problems: list[Problem] = []
    try:
        require_room(config.retention)
    except ConfigError as error:
        problems += error.problems
    try:
        if config.database is not None and config.database.dsn is not None:
            describe_target(config.database.dsn)
    except ConfigError as error:
        problems += error.problems
    return problems


def _check_feeds(config: Config) -> list[Problem]:
    """Loads the exchange library, which takes a second: only where there is a feed to ask about."""
    if not config.feeds:
        return []
    from ingestd.feeds import catalog

    return list(catalog.check(config.feeds))


def _notes(config: Config) -> list[Problem]:
    """What could be better, where gaps are to be filled."""
    if not config.feeds or not config.backfill.enabled:
        return []
    from ingestd.feeds import catalog

    return catalog.advice(config.feeds)


def _problems_of_sound_feeds(config_file: Path) -> Iterator[Problem]:
    """What the exchanges have to say about the feeds that can be read, although the file as a whole cannot.

    So that a misspelt key and a misspelt exchange are both found at the first try.
    """
    try:
        feeds = tomllib.loads(config_file.read_text(encoding="utf-8")).get("feeds", [])
    except (OSError, ValueError):
        return
    for index, feed in enumerate(feeds if isinstance(feeds, list) else []):
        alone: dict[str, Any] = {"feeds": [feed]}
        try:
            config = configuration.parse(alone, {}, base=config_file.parent)
        except ConfigError:
            continue
        for problem in _check_feeds(config):
            yield replace(problem, path=re.sub(r"^feeds\[0\]", f"feeds[{index}]", problem.path))


def _shown(problem: Problem) -> dict[str, str | None]:
    value = None if problem.value is None else redact(problem.value)
    return {"path": problem.path, "message": redact(problem.message), "value": value, "hint": problem.hint}
