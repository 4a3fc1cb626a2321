"""`ingestd check`: what a configuration comes to, or every mistake in it."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from ingestd import config as configuration
from ingestd.cli.loading import load_runnable
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
    with exit code 2. Opens no connection: symbols are held against the markets that a daemon with this state directory
    was told within the last day, where there was one.
    """
    try:
        config = load_runnable(config_file, by_kept_lists=True)
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


def _notes(config: Config) -> list[Problem]:
    """What could be better."""
    if not config.feeds:
        return []
    from ingestd.feeds import catalog

    hard_to_fill = catalog.advice(config.feeds) if config.backfill.enabled else []
    return [*hard_to_fill, *catalog.doubtful(config.feeds, config.instance.state_dir)]


def _shown(problem: Problem) -> dict[str, str | None]:
    value = None if problem.value is None else redact(problem.value)
    return {"path": problem.path, "message": redact(problem.message), "value": value, "hint": problem.hint}
