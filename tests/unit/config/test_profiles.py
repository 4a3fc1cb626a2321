"""Profiles: settings that a configuration includes, and what of them is refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.loading import load
from ingestd.config.models import Config, RefreshRule
from ingestd.errors import ConfigError
from ingestd.storage.candles import require_room

PROFILES = Path(__file__).parents[3] / "config" / "profiles"
NAMES = sorted(file.name for file in PROFILES.glob("*.toml"))
DEFAULT = Config()


def loaded(folder: Path, text: str, **profiles: str) -> Config:
    for name, content in profiles.items():
        (folder / f"{name}.toml").write_text(content, encoding="utf-8")
    file = folder / "ingestd.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, {"INGESTD_RETENTION__FUNDING_DAYS": "9"})


def problems_of(folder: Path, text: str, **profiles: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **profiles)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", NAMES)
def test_each_of_ours_leaves_room_for_the_refreshes(tmp_path: Path, name: str) -> None:
    config = loaded(tmp_path, f'include = ["{PROFILES / name}"]')
    require_room(config)


def in_the_document() -> dict[str, dict[str, dict[str, Any]]]:
    """What the table of docs/schema.md says, which was written from the systems' own documents."""
    text = (PROFILES.parents[1] / "docs" / "schema.md").read_text(encoding="utf-8")
    lines = text.partition("<!-- profiles -->")[2].partition("<!-- end of profiles -->")[0].splitlines()
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines[3:]:
        profile, _, section, options, value = (cell.strip() for cell in line.strip("| ").split(" | "))
        numbers = [int(number) for number in re.findall(r"\d+", value)]
        names = ("back_days", "settled_minutes", "every_minutes")
        setting = numbers[0] if len(numbers) == 1 else dict(zip(names, numbers, strict=True))
        for option in re.findall(r"`(\w+)`", options):
            found.setdefault(profile, {}).setdefault(section, {})[option] = setting
    return found


def test_each_sets_what_the_page_says_and_nothing_else() -> None:
    files = {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in PROFILES.glob("*.toml")}
    assert files == in_the_document()


def test_refreshes_can_be_included(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        'include = ["a.toml"]\n[refresh]\ncandles_1h = { every_minutes = 5 }\n',
        a="[refresh]\ncandles_1h = { every_minutes = 30 }\nohlcv_1h = { back_days = 2, settled_minutes = 90 }\n",
    )
    assert config.refresh.candles_1h.every_minutes == 5
    assert config.refresh.ohlcv_1h == RefreshRule(back_days=2, settled_minutes=90)
    (problem,) = problems_of(tmp_path, 'include = ["a.toml"]', a="[refresh]\ncandles_1h = { back_day = 1 }\n")
    assert problem == 'refresh.candles_1h.back_day: unknown key; it is in a.toml; did you mean "back_days"?'


def test_the_file_s_own_and_the_environment_s_count_more(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        'include = ["profile.toml"]\n[retention]\ntrades_days = 7\n',
        profile="[retention]\ntrades_days = 30\nmarket_ticks_days = 3\nfunding_days = 30\n[chunks]\ntrades_days = 3\n",
    )
    assert (config.retention.trades_days, config.retention.market_ticks_days) == (7, 3)
    assert config.retention.funding_days == 9
    assert config.chunks.trades_days == 3
    assert config.compression == DEFAULT.compression


def test_two_that_agree(tmp_path: Path) -> None:
    same = "[retention]\ntrades_days = 30\n"
    assert loaded(tmp_path, 'include = ["a.toml", "b.toml"]', a=same, b=same).retention.trades_days == 30


@pytest.mark.parametrize(
    ("include", "profile", "problem"),
    [
        ('"a.toml"', "", 'include: must be a list of files, as include = ["profiles/kairos.toml"]'),
        ('["none.toml"]', "", "include[0]: {folder}/none.toml cannot be read: no such file"),
        (
            '["a.toml"]',
            "[http]\nlisten = '0.0.0.0:1'",
            "include[0]: a.toml sets [http]; only chunks, compression, refresh, retention may be",
        ),
        (
            '["a.toml"]',
            "[retention]\ntrade_days = 1",
            'retention.trade_days: unknown key; it is in a.toml; did you mean "trades_days"?',
        ),
        (
            '["a.toml", "b.toml"]',
            "[retention]\ntrades_days = 1",
            "include[1]: b.toml sets retention.trades_days = 2, and a.toml sets 1;"
            " say in this file which it is: retention.trades_days = …",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, include: str, profile: str, problem: str) -> None:
    expected = problem.replace("{folder}", str(tmp_path))
    assert problems_of(tmp_path, f"include = {include}", a=profile, b="[retention]\ntrades_days = 2") == [expected]


def test_a_mistake_in_a_profile_names_it(tmp_path: Path) -> None:
    profile = "[retention]\ntrades_days = -1\nfunding_dais = 3\nfunding_days = 'x'\nmarket_ticks_days = -3\n"
    own = 'include = ["a.toml"]\n[retention]\nmarket_ticks_days = -2\n'
    assert sorted(problems_of(tmp_path, own, a=profile)) == [
        'retention.funding_dais: unknown key; it is in a.toml; did you mean "funding_days"?',
        "retention.market_ticks_days: must be at least 0 (found -2)",
        "retention.trades_days: must be at least 0 (found -1); it is in a.toml",
    ]
