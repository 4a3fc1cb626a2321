"""`ingestd check`: prints the effective configuration, or every mistake in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from ingestd.applications.keys import keys_of
from ingestd.cli.loading import load_runnable, with_lines_of_symbols_files
from ingestd.cli.options import config_option, json_option
from ingestd.cli.say import counted, say, say_json
from ingestd.cli.secret_files import readable_by_all
from ingestd.cli.signals import run_to_its_end
from ingestd.config import loading as configuration
from ingestd.config.models import Config, FeedConfig
from ingestd.config.secrets import redact
from ingestd.config.section import effective
from ingestd.config.toml_text import to_toml
from ingestd.config.values import is_pattern
from ingestd.errors import ConfigError, Problem
from ingestd.ops.logs import redact_value
from ingestd.sinks.table import configured

if TYPE_CHECKING:
    from ingestd.sinks.base import Answer


@click.command()
@config_option
@click.option(
    "--connect", is_flag=True, help="Also ask the database, Redis, Kafka, InfluxDB and each venue's REST API."
)
@json_option
def check(config_file: Path, connect: bool, as_json: bool) -> None:
    """Check a configuration and print the effective settings.

    Prints the effective configuration: defaults filled in, environment overrides applied, symbol files merged, secrets
    as ***. Prints advice as notes on standard error. If anything is wrong, prints every mistake and exits with 2. Opens
    no connection: checks symbols against the market list saved by a daemon with this state directory, if the list is at
    most a day old.

    With --connect, also queries each server and venue without changing anything there, and prints on standard error
    whether it answered and what a daemon would be missing there. If anything is missing, exits with 1.
    """
    try:
        config = load_runnable(config_file, by_cached_lists=True)
    except ConfigError as error:
        if not as_json:
            raise
        say_json(orjson.dumps({"ok": False, "problems": [_shown(problem) for problem in error.problems]}))
        raise SystemExit(2) from error
    settings = redact_value(effective(config))
    notes = [*configuration.deprecated(config), *notes_of(config), *readable_by_all(config, config_file)]
    notes += _unusable_keys(config)
    answers = _answers(config) if connect else {}
    problems = sum(len(answer.problems) for answer in answers.values())
    if as_json:
        told = {"ok": not problems, "config": settings, "notes": [_shown(note) for note in notes]}
        listed = [redact_value({"who": who, **asdict(answer)}) for who, answer in answers.items()]
        say_json(orjson.dumps({**told, "answers": listed} if connect else told))
    else:
        say(to_toml(settings), nl=False)
        for note in notes:
            say(f"ingestd: note: {note}", err=True)
        for who, answer in answers.items():
            if answer.said:
                say(f"ingestd: {who}: {redact(answer.said)}", err=True)
            for problem in answer.problems:
                say(f"ingestd: {who}: PROBLEM: {redact(problem)}", err=True)
        say(f"ingestd: {_verdict(config, len(notes), problems)}", err=True)
    if problems:
        raise SystemExit(1)


def _answers(config: Config) -> dict[str, Answer]:
    """Query all servers and venues. Imports every client library, so only --connect calls it."""
    from ingestd.cli.connecting import ask_all
    from ingestd.ops import logs

    logs.configure(config.log.model_copy(update={"level": "error"}))  # failures are in the answers
    return run_to_its_end(ask_all(config))


def _verdict(config: Config, notes: int, problems: int) -> str:
    """The last line of output: the result, and what would be captured and stored."""
    names = [name for feed in config.feeds for name in feed.symbols]
    patterns = sum(map(is_pattern, names))
    captured = [counted(len(config.feeds), "feed")]
    captured += [counted(len(names) - patterns, "symbol")] if len(names) > patterns else []
    captured += [counted(patterns, "pattern")] if patterns else []
    sinks = [kind.section for kind in configured(config).values()]
    role = config.instance.role
    parts = [f"role {role}"] if role != "all" else []
    parts += [", ".join(captured)] if role != "sink" else []
    parts += [f"sinks: {', '.join(sinks)}"] if role != "sink" else []
    parts += [counted(notes, "note")] if notes else []
    return f"{counted(problems, 'problem') if problems else 'ok'}: {'; '.join(parts)}"


def notes_of(config: Config) -> list[Problem]:
    """Advice about a valid configuration. Opens no connection."""
    if not config.feeds:
        return []
    from ingestd.feeds import catalog

    hard_to_fill = catalog.advice(config.feeds) if config.backfill.enabled else []
    doubtful = with_lines_of_symbols_files(config, catalog.doubtful(config.feeds, config.instance.state_dir))
    useless = [*catalog.pointless(config.feeds), *_without_candles(config.feeds)]
    return [*hard_to_fill, *useless, *doubtful, *_named_twice(config.feeds)]


def _unusable_keys(config: Config) -> Sequence[Problem]:
    """A note and no mistake: a daemon does without these keys, and may not be allowed to read them."""
    if config.connections.key_file is None and not config.connections.other_key_files:
        return ()
    try:
        keys_of(config.connections)
    except ConfigError as error:
        return error.problems
    return ()


def _named_twice(feeds: Sequence[FeedConfig]) -> Iterator[Problem]:
    for index, feed in enumerate(feeds):
        for key, names in (("channels", feed.channels), ("symbols", feed.symbols)):
            seen: set[str] = set()
            for number, name in enumerate(names):
                if name in seen:
                    yield Problem(f"feeds[{index}].{key}[{number}]", "is named twice", repr(name))
                seen.add(name)


def _without_candles(feeds: Sequence[FeedConfig]) -> Iterator[Problem]:
    """A timeframe of candles that the feed does not capture, and that nothing checks therefore."""
    default = FeedConfig.model_fields["candle_timeframe"].default
    for index, feed in enumerate(feeds):
        if "candles" not in feed.channels and feed.candle_timeframe != default:
            message = "has no effect without the channel candles"
            hint = 'add "candles" to channels, or leave it out'
            yield Problem(f"feeds[{index}].candle_timeframe", message, repr(feed.candle_timeframe), hint)


def _shown(problem: Problem) -> dict[str, str | None]:
    value = None if problem.value is None else redact(problem.value)
    return {"path": problem.path, "message": redact(problem.message), "value": value, "hint": problem.hint}
