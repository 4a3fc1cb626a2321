"""The list of exchanges of which something is known."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import ingestd.venues
from ingestd.venues.all import FACTS, FILES, facts_in, facts_of

ROOM = Path(ingestd.venues.__file__).parent


def test_every_file_with_facts_is_listed() -> None:
    with_facts = {file.stem for file in ROOM.glob("*.py") if re.search(r"^FACTS = ", file.read_text(), re.MULTILINE)}
    assert with_facts == set(FILES)
    assert list(FILES) == sorted(FILES)


def test_no_exchange_has_two_rows() -> None:
    rows = Counter(facts.exchange for file in FILES for facts in facts_in(file))
    assert {exchange for exchange, count in rows.items() if count > 1} == set()
    assert set(rows) == set(FACTS)


def test_an_exchange_of_which_nothing_is_known_is_as_most_are() -> None:
    facts = facts_of("newcomer")
    assert facts.exchange == "newcomer"
    assert facts.native is None
    assert not facts.trades.past.is_known  # type: ignore[union-attr]
