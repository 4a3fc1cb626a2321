"""Profiles: files of settings of retention, chunks, compression and refreshes, which a configuration includes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingestd.config.values import read_text, why_unreadable
from ingestd.errors import Problem

_SECTIONS = ("chunks", "compression", "refresh", "retention")


def include(document: dict[str, Any], base: Path) -> tuple[list[Problem], dict[str, str]]:
    """Fill in what the files that `include` names set and the document itself does not, and remove `include` from it.

    Their paths are relative to `base`. Returns a problem for each file that cannot be read, sets something else than
    policies, or contradicts an earlier one; and by key path which file has filled it in.
    """
    named = document.pop("include", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return [Problem("include", 'must be a list of files, as include = ["profiles/kairos.toml"]')], {}
    problems: list[Problem] = []
    included: dict[tuple[str, str], tuple[Any, str]] = {}
    for place, name in enumerate(named):
        path = f"include[{place}]"
        try:
            profile = tomllib.loads(read_text(base / name))
        except (OSError, ValueError) as error:  # no TOML is a ValueError
            problems.append(Problem(path, f"{base / name} cannot be read: {why_unreadable(error)}"))
            continue
        for section, key, value in _settings(profile):
            if section not in _SECTIONS:
                problems.append(Problem(path, f"{name} sets [{section}]", None, f"only {', '.join(_SECTIONS)} may be"))
            elif (own := document.get(section)) is not None and (not isinstance(own, dict) or key in own):
                continue
            elif (earlier := included.setdefault((section, key), (value, name)))[0] != value:
                said = f"{name} sets {section}.{key} = {value!r}, and {earlier[1]} sets {earlier[0]!r}"
                problems.append(Problem(path, said, None, f"say in this file which it is: {section}.{key} = …"))
    for (section, key), (value, _) in included.items():
        document.setdefault(section, {})[key] = value
    return problems, {f"{section}.{key}": name for (section, key), (_, name) in included.items()}


def _settings(profile: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for section, values in profile.items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            yield section, key, value
