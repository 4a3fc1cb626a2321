"""On how many kinds of server a test runs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.time_limits import AT_LENGTH


def kinds_for(metafunc: pytest.Metafunc, kinds: Sequence[str], preferred: str) -> Sequence[str]:
    """Every kind; in the usual run the preferred one alone for what is marked `one_server`."""
    is_marked = metafunc.definition.get_closest_marker("one_server") is not None
    return [preferred] if is_marked and not AT_LENGTH else kinds
