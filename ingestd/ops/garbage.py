"""The interpreter's search for reference cycles, kept off what lives as long as the daemon.

The exchange library and its markets are a quarter of a million objects. A full search looks at every one of them and
holds the event loop for 160 ms; while a busy Kafka sink makes and drops its messages there is one each second. What
has survived a search is frozen when it is many: freed like everything else when nobody refers to it, only not searched.
Reference: https://docs.python.org/3.11/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc

MOST_OBJECTS = 50_000
"""When a full search has left more than that, they are frozen."""

# A batch's messages come and go together: by the default of 700 they would be looked at many times while they live.
_YOUNG_OBJECTS = 10_000
_OLDEST_GENERATION = 2


def tame() -> None:
    """From now on. To be called when everything is imported, before the event loop runs."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    if _freeze_many not in gc.callbacks:
        gc.callbacks.append(_freeze_many)


def _freeze_many(phase: str, info: dict[str, int]) -> None:
    # Only what a full search has just left is free of unreachable cycles, which would be kept for ever.
    if phase == "stop" and info["generation"] == _OLDEST_GENERATION and len(gc.get_objects()) > MOST_OBJECTS:
        gc.freeze()
