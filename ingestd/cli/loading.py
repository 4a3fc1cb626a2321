"""Loads and fully checks a configuration file for a command; reports every mistake in it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingestd.config import loading as configuration
from ingestd.config.models import Config
from ingestd.config.runnable import what_is_lacking
from ingestd.errors import ConfigError, Problem
from ingestd.sinks.table import configured

# Takes the place of a feed too broken to check, so that the other feeds keep their index.
_ANY_FEED = {"exchange": "binance", "symbols": ["*"]}
_ROUNDS = 5  # of removing wrong keys: without them, another check may find another mistake
_PLACE = re.compile(r"^feeds\[(\d+)\](?:\.(\w+))?(?:\[(\d+)\])?")


def load_checked(config_file: Path) -> Config:
    """Load the configuration and check it against what the exchanges offer. Raises ConfigError with every mistake."""
    config, problems = _check_file(config_file, lambda config: _check_values(config, by_cached_lists=False))
    if problems or config is None:
        raise ConfigError(problems, config_file)
    return config


def load_for_database(config_file: Path | None, dsn: str | None = None) -> Config:
    """Load the configuration, and check of its values only the connection string; `dsn` replaces the file's. Without a
    file, every other value is its default. Raises ConfigError with every mistake."""
    config, problems = _check_file(config_file, _check_database, dsn)
    if problems or config is None:
        raise ConfigError(problems, config_file)
    return config


def load_runnable(config_file: Path, role: str | None = None, *, by_cached_lists: bool = False) -> Config:
    """Like `load_checked`, and require all sections that a daemon in this role needs; `role` overrides the file's.

    `by_cached_lists`: check symbols against the market lists that a daemon cached. A daemon itself asks the venue.
    """
    config, problems = _check_file(config_file, lambda config: _check_values(config, by_cached_lists=by_cached_lists))
    if config is not None:
        if role is not None:
            config = config.model_copy(update={"instance": config.instance.model_copy(update={"role": role})})
        problems += what_is_lacking(config)
    if problems or config is None:
        raise ConfigError(problems, config_file)
    return config


def _check_file(
    config_file: Path | None, check_values: Callable[[Config], Iterable[Problem]], dsn: str | None = None
) -> tuple[Config | None, list[Problem]]:
    """Return the configuration, if valid, and all mistakes. Raises ConfigError if the file is missing or not TOML."""
    document = {"database": {}} if config_file is None else configuration.read(config_file)
    environ = os.environ if dsn is None else _with_dsn(document, dsn)
    config, problems = configuration.examine(document, environ, base=config_file.parent if config_file else Path())
    if config is not None:
        return config, configuration.by_variable([*problems, *check_values(config)], os.environ)
    sound, beyond_repair = _without_mistakes(document, problems)
    if sound is None:
        return None, configuration.by_variable(problems, os.environ)
    known = {problem.path for problem in problems}
    also = (_as_written(problem, document) for problem in check_values(sound))
    more = [problem for problem in also if problem.path not in known and not problem.path.startswith(beyond_repair)]
    return None, configuration.by_variable([*_with_nearest_exchange(problems), *more], os.environ)


def _with_dsn(document: dict[str, Any], dsn: str) -> dict[str, str]:
    """Put the DSN into the document, in the place of everything that says where another database is. Return the
    environment without what says it."""
    section = document.setdefault("database", {})
    replaced = ("dsn", "dsn_file", "password_file")
    if isinstance(section, dict):
        for key in replaced:
            section.pop(key, None)
        section["dsn"] = dsn
    variables = {f"{configuration.ENV_PREFIX}DATABASE__{key.upper()}" for key in replaced}
    return {name: value for name, value in os.environ.items() if name not in variables}


def _check_database(config: Config) -> Sequence[Problem]:
    from ingestd.storage.dsn import describe_target

    database = config.database
    return () if database is None else _raised_by(lambda: describe_target(database.resolved_dsn()))


def _check_values(config: Config, *, by_cached_lists: bool) -> Iterator[Problem]:
    """Find the mistakes that remain in a configuration whose values are each valid."""
    from ingestd.sinks.base import setup_of
    from ingestd.storage.candles import require_room

    yield from _raised_by(lambda: require_room(config))
    for kind in configured(config).values():
        yield from setup_of(kind).problems(config)
    for feed in config.feeds:
        yield from _raised_by(feed.credentials)
    if config.feeds:  # importing the exchange library takes a second
        from ingestd.feeds import catalog

        yield from catalog.check(config.feeds)
        if by_cached_lists:
            yield from with_lines_of_symbols_files(config, catalog.unlisted(config.feeds, config.instance.state_dir))


def _raised_by(read: Callable[[], object]) -> Sequence[Problem]:
    try:
        read()
    except ConfigError as error:
        return error.problems
    return ()


def with_lines_of_symbols_files(config: Config, problems: Iterable[Problem]) -> Iterator[Problem]:
    """For a problem with a symbol from a symbols file, replace the key path by the file and the line."""
    for problem in problems:
        place = _PLACE.match(problem.path)
        feed = config.feeds[int(place[1])] if place is not None and place[2] == "symbols" and place[3] else None
        line = _line_of(feed.symbols[int(place[3])], feed.symbols_file) if place and feed and feed.symbols_file else 0
        yield replace(problem, path=f"{feed.symbols_file}:{line}") if feed is not None and line else problem


def _line_of(symbol: str, file: Path) -> int:
    """The number of the first line that names the symbol; 0 if none does."""
    with contextlib.suppress(OSError, ValueError):
        lines = configuration.symbols_in(file)
        return lines.index(symbol) + 1 if symbol in lines else 0
    return 0


def _without_mistakes(document: dict[str, Any], problems: list[Problem]) -> tuple[Config | None, tuple[str, ...]]:
    """Return the configuration without its wrong keys, and the paths of the feeds too broken to check.

    What is left is checked too, so that one run reports both a misspelt key and a misspelt exchange. The configuration
    is None if no valid one is left.
    """
    left = {key: list(value) if isinstance(value, list) else value for key, value in document.items()}
    left = {key: dict(value) if isinstance(value, dict) else value for key, value in left.items()}
    beyond_repair: set[str] = set()
    for _ in range(_ROUNDS):
        for problem in reversed(problems):  # last item first, so that the indexes of the others stay valid
            if (place := _PLACE.match(problem.path)) is not None:
                index = int(place[1])
                left["feeds"][index] = feed = _without_mistake(left["feeds"][index], place[2], place[3])
                if feed is _ANY_FEED:
                    beyond_repair.add(f"feeds[{index}]")
            else:
                section, _, key = problem.path.partition(".")
                inside = left.get(section)
                if key and isinstance(inside, dict) and key.partition("[")[0] in inside:
                    del inside[key.partition("[")[0]]
                else:
                    left.pop(section, None)
        config, problems = configuration.examine(left, {})
        if config is not None:
            return config, tuple(beyond_repair)
    return None, ()


def _without_mistake(feed: Any, key: str | None, item: str | None) -> dict[str, Any]:
    """Return a feed without its wrong key or item."""
    if not isinstance(feed, dict) or key == "exchange":
        return _ANY_FEED
    if key is None or key in ("symbols", "symbols_file"):
        return {**{name: value for name, value in feed.items() if name != "symbols_file"}, "symbols": ["*"]}
    value = feed.get(key)
    if item is not None and isinstance(value, list) and len(value) > 1:
        return {**feed, key: [each for number, each in enumerate(value) if number != int(item)]}
    return {name: value for name, value in feed.items() if name != key}


def _as_written(problem: Problem, document: dict[str, Any]) -> Problem:
    """Give a problem the index that its item has in the file: removing a wrong item has shortened the list."""
    place = re.match(r"^feeds\[(\d+)\]\.(channels|symbols)\[\d+\]$", problem.path)
    if place is None:
        return problem
    values = document["feeds"][int(place[1])].get(place[2])
    number = next((n for n, each in enumerate(values or ()) if repr(each) == problem.value), None)
    return problem if number is None else replace(problem, path=f"feeds[{place[1]}].{place[2]}[{number}]")


def _with_nearest_exchange(problems: list[Problem]) -> Iterator[Problem]:
    """Add the nearest exchange id as a hint to each problem with a malformed exchange id."""
    from ingestd.feeds import catalog

    for problem in problems:
        is_exchange = re.fullmatch(r"feeds\[\d+\]\.exchange", problem.path) and problem.value is not None
        yield replace(problem, hint=catalog.nearest_exchange(problem.value or "")) if is_exchange else problem
