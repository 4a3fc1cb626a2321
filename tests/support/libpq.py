"""What libpq makes of a connection string: the oracle for our reading of it. It is the embedded PostgreSQL's own."""

from __future__ import annotations

import ctypes
from functools import cache

from ingestd.lab.sim.embedded import wheel_binaries


class _Option(ctypes.Structure):
    """`PQconninfoOption` (https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PQCONNDEFAULTS)."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    )


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(wheel_binaries().parent / "lib" / "libpq.so.5"))
    for function in (library.PQconninfoParse, library.PQconndefaults):
        function.restype = ctypes.POINTER(_Option)
    library.PQconninfoParse.argtypes = (ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p))
    library.PQconninfoFree.argtypes = (ctypes.POINTER(_Option),)
    return library


def parsed(text: str) -> dict[str, str] | None:
    """The parameters the string sets; None when libpq refuses it."""
    message = ctypes.c_char_p()
    options = _library().PQconninfoParse(text.encode(), ctypes.byref(message))
    return _values(options) if options else None


def parameters() -> list[str]:
    """Every parameter of libpq."""
    options = _library().PQconndefaults()
    names: list[str] = []
    while options[len(names)].keyword:
        names.append(options[len(names)].keyword.decode())
    _library().PQconninfoFree(options)
    return names


def _values(options: ctypes._Pointer[_Option]) -> dict[str, str]:
    values, at = {}, 0
    while options[at].keyword:
        if options[at].val is not None:
            values[options[at].keyword.decode()] = options[at].val.decode()
        at += 1
    _library().PQconninfoFree(options)
    return values
