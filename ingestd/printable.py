"""Makes text from outside safe to print on a terminal.

Names, close reasons and errors come from venues, brokers and databases. In such text, escape sequences control the
terminal, line breaks and carriage returns forge lines, and bidirectional overrides display a text other than the one
sent.
"""

from __future__ import annotations

import re

_NOT_PRINTABLE = re.compile(r"[^ -~]")


def printable(text: str, keep: str = "") -> str:
    """Replace each unprintable character by `?`, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return _NOT_PRINTABLE.sub(lambda found: found[0] if found[0].isprintable() or found[0] in keep else "?", text)


def printable_json(text: str) -> str:
    """Escape every unprintable character in a JSON text; JSON itself requires it of some only."""
    return text if text.isprintable() else _NOT_PRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character.isprintable() or character == "\n":  # a line break between values of an indented document
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
