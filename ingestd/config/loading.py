"""Loads the configuration: one TOML file, `INGESTD_SECTION__KEY` environment overrides, symbols files.

Loading opens no socket and does not stop at the first mistake: `ConfigError` carries all of them.
`feeds.catalog` checks whether an exchange exists and has a channel, since that needs the exchange library.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ingestd.config.messages import nearest, problem_of
from ingestd.config.models import Config
from ingestd.config.overlap import overlaps
from ingestd.config.packs import contradictions
from ingestd.config.profiles import include
from ingestd.config.secrets import hide
from ingestd.config.section import Section, marked_values, options_of
from ingestd.config.values import read_text, why_unreadable
from ingestd.errors import ConfigError, Problem

ENV_PREFIX = "INGESTD_"


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read the file, apply the environment's overrides, and check the result. Raises ConfigError with every mistake.

    Relative paths of `*_file` and `*_files` are relative to the file's folder; symbols files are read here and merged
    into `symbols`.
    """
    document = read(path)
    environ = os.environ if environ is None else environ
    try:
        return parse(document, environ, base=path.parent)
    except ConfigError as error:
        raise ConfigError(by_variable(error.problems, environ), path) from error


def read(path: Path) -> dict[str, Any]:
    """Read the file without checking it. Raises ConfigError if it is missing or not TOML."""
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {why_unreadable(error)}")]) from error
    except ValueError as error:  # a mistake in the TOML or in the encoding
        raise ConfigError([Problem(str(path), f"is not valid TOML: {error}")]) from error


def parse(document: dict[str, Any], environ: Mapping[str, str], base: Path = Path()) -> Config:
    """Check a document that `read` returned. Raises ConfigError with every mistake."""
    config, problems = examine(document, environ, base)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def examine(
    document: dict[str, Any], environ: Mapping[str, str], base: Path = Path()
) -> tuple[Config | None, list[Problem]]:
    """Return the configuration (None if a section or option is invalid) and all mistakes in the document.

    Modifies the document: fills in included profiles, overrides, paths and symbols files.
    """
    problems, filled_in = include(document, base)
    _apply_environment(document, environ, problems)
    _resolve_paths(document, base)
    _merge_symbol_files(document, problems)
    try:
        config = Config.model_validate(document)
        _hide_secrets(config)
    except ValidationError as error:
        for _, section, key, _ in _overrides(environ):
            filled_in.pop(f"{section}.{key}", None)
        found = [problem_of(detail) for detail in error.errors()]
        return None, problems + [_with_profile(problem, filled_in) for problem in found]
    packs = () if config.database is None else config.database.packs
    captured = {feed.exchange for feed in config.feeds}
    return config, [*problems, *overlaps(config.feeds), *contradictions(packs, config.packs, captured)]


def _with_profile(problem: Problem, filled_in: Mapping[str, str]) -> Problem:
    """Say which profile a mistake is in, since the configuration itself does not have it."""
    profile = filled_in.get(".".join(problem.path.split(".")[:2]))
    hint = f"; {problem.hint}" if problem.hint else ""
    return problem if profile is None else replace(problem, hint=f"it is in {profile}{hint}")


def by_variable(problems: Iterable[Problem], environ: Mapping[str, str]) -> list[Problem]:
    """Name the environment variable instead of the key path where the value is the variable's."""
    variables = {f"{section}.{key}": name for name, section, key, _ in _overrides(environ)}
    named = []
    for problem in problems:
        key = re.match(r"\w+\.\w+", problem.path)
        if key is not None and key[0] in variables:
            problem = replace(problem, path=variables[key[0]] + problem.path[key.end() :])
        named.append(problem)
    return named


def deprecated(config: Config) -> list[Problem]:
    """List a note for each option of the file that is accepted but no longer has an effect."""
    notes = []
    for name, section in config:
        for option in sorted(section.model_fields_set) if isinstance(section, Section) else ():
            why = type(section).model_fields[option].deprecated
            if isinstance(why, str):
                notes.append(Problem(f"{name}.{option}", why, hint="take it out of the file"))
    return notes


def _hide_secrets(config: Config) -> None:
    """Mask the document's secrets in all messages from now on.

    Secrets in a DSN or in a file are masked when the DSN or the file is read.
    """
    for mark, value in marked_values(config):
        for secret in mark.secrets(value):
            hide(secret)


def _apply_environment(document: dict[str, Any], environ: Mapping[str, str], problems: list[Problem]) -> None:
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and "__" not in name:
            problems += _with_one_underscore(name)
    for name, section, key, text in _overrides(environ):
        if section not in Config.model_fields or section == "feeds":
            sections = [known for known in Config.model_fields if known != "feeds"]
            hint = nearest(section, sections)
            problems.append(Problem(name, "names no section that can be overridden", repr(section), hint))
            continue
        target = document.setdefault(section, {})
        if isinstance(target, dict):
            target[key] = _environment_value(text)


def _overrides(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, section, key and text of each environment variable with two underscores."""
    for name, text in sorted(environ.items()):
        if name.startswith(ENV_PREFIX) and "__" in name:
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            field = Config.model_fields.get(section)
            known_keys = options_of(field) if field is not None else ()
            yield name, section, next((known for known in known_keys if known.lower() == key), key), text


def _with_one_underscore(name: str) -> Iterator[Problem]:
    """Report an environment variable that looks like an override but has only one underscore."""
    section, _, key = name.removeprefix(ENV_PREFIX).partition("_")
    if key and section.lower() in Config.model_fields and section.lower() != "feeds":
        meant = f"{ENV_PREFIX}{section}__{key}"
        yield Problem(name, "overrides nothing", None, f"write {meant}, with two underscores")


def _environment_value(text: str) -> Any:
    """Parse the text as a TOML value (number, boolean, list) if it is one, else return the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _resolve_paths(document: dict[str, Any], base: Path) -> None:
    for section in document.values():
        for table in section if isinstance(section, list) else [section]:
            for key, value in table.items() if isinstance(table, dict) else ():
                if key.endswith("_file") and isinstance(value, str):
                    table[key] = str(base / value)
                elif key.endswith("_files") and isinstance(value, list):
                    table[key] = [str(base / each) if isinstance(each, str) else each for each in value]


def _merge_symbol_files(document: dict[str, Any], problems: list[Problem]) -> None:
    feeds = document.get("feeds")
    for index, feed in enumerate(feeds if isinstance(feeds, list) else []):
        if not isinstance(feed, dict) or not isinstance(feed.get("symbols_file"), str):
            continue
        listed = feed.get("symbols", [])
        try:
            named = symbols_in(Path(feed["symbols_file"]))
        except (OSError, ValueError) as error:  # an impossible file name is a ValueError
            file = feed["symbols_file"]
            problems.append(Problem(f"feeds[{index}].symbols_file", f"{file} cannot be read: {why_unreadable(error)}"))
            continue
        if isinstance(listed, list):
            feed["symbols"] = list(dict.fromkeys([*listed, *(name for name in named if name)]))


def symbols_in(file: Path) -> list[str]:
    """The symbol on each line of a symbols file, "" if a line has none. Raises OSError, or ValueError if not text."""
    return [line.partition("#")[0].strip() for line in read_text(file).splitlines()]
