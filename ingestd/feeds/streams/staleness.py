"""After how long a silence a socket is dialled again. Pure: the caller has the clock."""

from __future__ import annotations

MOST_DOUBLINGS = 3


class Staleness:
    """The limit for the sockets of one address: `stale_after_s` without data.

    It doubles with each socket that brought no data at all, up to eight times, since the market may merely be quiet.
    Data makes it the shortest again.
    """

    def __init__(self, stale_after_s: float) -> None:
        self._stale_after_s = stale_after_s
        self._silent_sockets = 0  # in a row

    def is_stale(self, silent_s: float, *, has_delivered: bool) -> bool:
        """Whether to dial this socket again. `has_delivered`: whether it has brought data since it was dialled.

        True counts: call it once for each socket that is given up.
        """
        if has_delivered:
            self._silent_sockets = 0
        if silent_s < self._stale_after_s * 2**self._silent_sockets:
            return False
        self._silent_sockets = min(MOST_DOUBLINGS, self._silent_sockets + (not has_delivered))
        return True
