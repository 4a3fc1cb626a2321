"""What stands in a venue's frame, read without its decoder."""

from __future__ import annotations

import re


def text_of(frame: str, key: str) -> str:
    """The value of a key as it stands in the frame: without quotes, never through a float."""
    match = re.search(rf'"{key}":"?([0-9.eE+-]+)"?', frame)
    assert match is not None
    return match.group(1)
