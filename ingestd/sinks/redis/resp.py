"""The two halves of the Redis protocol (RESP2) that publishing needs: packing commands and counting replies.

Format: https://redis.io/docs/latest/develop/reference/protocol-spec/. A command is an array of bulk strings. Every
command sent here is answered by one line (`:1`, `+OK`, `-ERR …`), so replies are counted, not parsed.
"""

from __future__ import annotations

_LONGEST_LINE = 64 * 1024


def pack(*parts: bytes) -> bytes:
    """One command, ready to send."""
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))


def publish_head(channel: bytes) -> bytes:
    """What comes before the message of every PUBLISH to this channel; see `publish`."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(channel), channel)


def publish(head: bytes, message: bytes) -> bytes:
    """The PUBLISH of one message: `head` is computed once a channel."""
    return b"%b$%d\r\n%b\r\n" % (head, len(message), message)


class Replies:
    """Counts complete reply lines and keeps the errors among them, by their number since the start."""

    def __init__(self) -> None:
        self.count = 0
        self._tail = b""

    def feed(self, data: bytes) -> list[tuple[int, str]]:
        """Take what the socket read. Returns the errors: (number of the reply, 0 the first; its text).

        Raises ValueError on a line no such server sends.
        """
        data = self._tail + data
        end = data.rfind(b"\n") + 1
        self._tail = data[end:]
        if len(self._tail) > _LONGEST_LINE:
            raise ValueError("the reply has no end: this is not a Redis server")
        complete = data[:end]
        errors: list[tuple[int, str]] = []
        if complete.startswith(b"-") or b"\n-" in complete:
            lines = complete.split(b"\n")
            errors = [
                (self.count + number, line[1:].strip().decode("utf-8", "replace"))
                for number, line in enumerate(lines)
                if line.startswith(b"-")
            ]
        self.count += complete.count(b"\n")
        return errors


def error_class(text: str) -> str:
    """The first word of an error where it is one of the server's known codes, else `other`: a bounded set."""
    code = text.partition(" ")[0]
    return code if code in _KNOWN_CODES else "other"


_KNOWN_CODES = frozenset(
    {
        *("ERR", "OOM", "NOAUTH", "NOPERM", "WRONGPASS", "WRONGTYPE", "READONLY", "LOADING", "MASTERDOWN", "MISCONF"),
        *("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "CROSSSLOT", "NOREPLICAS", "BUSY", "UNKILLABLE"),
    }
)
# This connection is of no more use: the server behind it changed its part.
CODES_TO_RECONNECT_ON = frozenset(
    {"NOAUTH", "READONLY", "LOADING", "MASTERDOWN", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN"}
)
