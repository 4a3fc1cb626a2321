"""Freezes long-lived objects, so that the garbage collector skips them.

ccxt and its markets are a quarter of a million objects. A full collection visits all of them and blocks the event loop
for 160 ms; a busy Kafka sink causes one each second. So when many objects have survived a collection, they are frozen:
they are still freed when nothing refers to them, but no longer visited.
Reference: https://docs.python.org/3.11/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc

MOST_OBJECTS = 50_000
"""If more objects than this survive a full collection, they are frozen."""

# The messages of a batch are freed together: with the default of 700 they would be visited many times before.
_YOUNG_OBJECTS = 10_000
_OLDEST_GENERATION = 2


def tame() -> None:
    """Start freezing. Call it once everything is imported, before the event loop runs."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    if _freeze_many not in gc.callbacks:
        gc.callbacks.append(_freeze_many)


def _freeze_many(phase: str, info: dict[str, int]) -> None:
    # Freeze only right after a full collection: at other times unreachable cycles would be frozen too, and never freed.
    if phase == "stop" and info["generation"] == _OLDEST_GENERATION and len(gc.get_objects()) > MOST_OBJECTS:
        gc.freeze()
