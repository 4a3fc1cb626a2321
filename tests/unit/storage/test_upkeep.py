"""How often the candles are made again."""

from __future__ import annotations

import pytest

from ingestd.storage.upkeep import pause_s


@pytest.mark.parametrize(("took_s", "expected_s"), [(0.0, 2.0), (0.1, 2.0), (1.0, 9.0), (3.0, 27.0), (60.0, 30.0)])
def test_the_longer_a_refresh_takes_the_rarer_it_is_up_to_half_a_minute(took_s: float, expected_s: float) -> None:
    assert pause_s(took_s) == expected_s
