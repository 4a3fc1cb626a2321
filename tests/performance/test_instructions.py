"""A trade costs about as many instructions, from the socket's bytes to COPY text, as when somebody last looked."""

from __future__ import annotations

import shutil

import msgspec
import pytest

from tests.performance.instructions import comparable, count, differences, here, read
from tests.performance.venues import EXCHANGES

REGENERATE = "`make instructions` counts them anew"


def test_no_venue_became_dearer_or_cheaper_unnoticed() -> None:
    committed = read()
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not here: NOBODY HAS COUNTED what decoding costs (Debian: apt-get install valgrind)")
    if because := comparable(committed, here({})):
        pytest.skip(f"{because}: NOBODY HAS COMPARED what decoding costs; {REGENERATE}")

    found = differences(committed.instructions_per_trade, count(EXCHANGES))

    assert not found, "\n".join([*found, f"If that is meant: {REGENERATE}; say why in the commit."])


def test_a_tenth_more_or_less_is_found() -> None:
    committed = {"a": 1000, "b": 1000}
    assert differences(committed, {"a": 1099, "b": 901}) == []
    (dearer,) = differences(committed, {"a": 1101, "b": 1000})
    assert "a: 1,101" in dearer
    assert "+10%" in dearer
    (cheaper,) = differences(committed, {"a": 1000, "b": 899})
    assert cheaper.startswith("b: ")


def test_a_venue_that_is_not_counted_or_not_committed_is_found() -> None:
    assert differences({"a": 1}, {"b": 1}) == ["b is counted and has no committed figure", "a was not counted"]


def test_figures_of_another_python_are_not_compared() -> None:
    ours = here({"a": 1})
    assert comparable(ours, ours) is None
    for what in ("python", "machine", "build"):
        assert what in str(comparable(msgspec.structs.replace(ours, **{what: "another"}), ours))


def test_every_committed_venue_is_counted() -> None:
    assert set(read().instructions_per_trade) == set(EXCHANGES)
