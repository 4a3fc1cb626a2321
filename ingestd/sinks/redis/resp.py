"""The parts of the Redis protocol (RESP2) that publishing needs: packing commands and counting replies.

Format: https://redis.io/docs/latest/develop/reference/protocol-spec/. A command is an array of bulk strings. Every
command sent here is answered by one line (`:1`, `+OK`, `-ERR …`), so replies are counted, not parsed.
"""

from __future__ import annotations

_LONGEST_LINE = 64 * 1024


def pack(*parts: bytes) -> bytes:
    """Pack one command."""
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))


def publish_head(channel: bytes) -> bytes:
    """The bytes before the message in every PUBLISH to this channel; see `publish`."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(channel), channel)


def publish(head: bytes, message: bytes) -> bytes:
    """Pack the PUBLISH of one message. `head` is computed once for each channel."""
    return b"%b$%d\r\n%b\r\n" % (head, len(message), message)


class Replies:
    """Counts complete reply lines, and finds the errors among them."""

    def __init__(self) -> None:
        self.count = 0
        self._tail = b""

    def feed(self, data: bytes) -> list[tuple[int, str]]:
        """Take bytes from the socket. Returns the errors as (number of the reply since the start, from 0; its text).

        Raises ValueError if a line is longer than any reply.
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
    """The first word of an error if it is a known code, else `other`: a bounded set of metric labels."""
    code = text.partition(" ")[0]
    return code if code in _KNOWN_CODES else "other"


_KNOWN_CODES = frozenset(
    {
        *("ERR", "OOM", "NOAUTH", "NOPERM", "WRONGPASS", "WRONGTYPE", "READONLY", "LOADING", "MASTERDOWN", "MISCONF"),
        *("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "CROSSSLOT", "NOREPLICAS", "BUSY", "UNKILLABLE"),
    }
)
# After these the connection cannot be used any more: the server's role or its users have changed.
CODES_TO_RECONNECT_ON = frozenset(
    {"NOAUTH", "READONLY", "LOADING", "MASTERDOWN", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN"}
)
