"""How long a socket may be silent before it is replaced. Pure: the caller passes the time."""

from __future__ import annotations

MOST_DOUBLINGS = 3


class Staleness:
    """The silence limit for the sockets of one URL: `stale_after_s` without data.

    Each socket in a row that delivered no data at all doubles the limit, up to eight times, because the market may
    merely be quiet. Data resets it.
    """

    def __init__(self, stale_after_s: float) -> None:
        self._stale_after_s = stale_after_s
        self._silent_sockets = 0  # in a row

    def is_stale(self, silent_s: float, *, has_delivered: bool) -> bool:
        """Whether to replace this socket. `has_delivered`: whether it has delivered data since it was connected.

        A result of True is counted, so call this until it is True once for each socket.
        """
        if has_delivered:
            self._silent_sockets = 0
        if silent_s < self._stale_after_s * 2**self._silent_sockets:
            return False
        self._silent_sockets = min(MOST_DOUBLINGS, self._silent_sockets + (not has_delivered))
        return True
