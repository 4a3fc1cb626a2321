"""Key files: which are accepted, and which key writes and which ones read."""

from __future__ import annotations

import base64
import binascii
import codecs
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingestd.config.connections import ConnectionsConfig
from ingestd.config.values import why_unreadable
from ingestd.errors import ConfigError, Problem

KEY_BYTES = 32
ID_BYTES = 8
HOW_TO_MAKE_ONE = "make one with `ingestd connections new-key FILE`, or with `openssl rand -hex 32`"

_LONGEST_FILE_BYTES = 1024
_FEWEST_DISTINCT = 8  # bytes of a random key: fewer come once in 10^35
_HEX = re.compile(r"[0-9A-Fa-f]+")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of AES-256, and the id that is stored beside what it has encrypted: a hash, from which it cannot be
    computed."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        return hashlib.sha256(b"ingestd key id\0" + self.secret).digest()[:ID_BYTES]


class Keys:
    """The key that encrypts, and every key that decrypts, by id."""

    def __init__(self, writing: Key, others: Iterable[Key] = ()) -> None:
        self.writing = writing
        self.by_id: Mapping[bytes, Key] = {key.id: key for key in (writing, *others)}

    def __repr__(self) -> str:
        return f"Keys(writing {self.writing.id.hex()}, reads {', '.join(key_id.hex() for key_id in self.by_id)})"


def keys_of(config: ConnectionsConfig) -> Keys:
    """Read the configured key files. Raises ConfigError with a problem for each that cannot be used."""
    if config.key_file is None:
        raise ConfigError(
            [Problem("connections.key_file", "names no file", hint=f"{HOW_TO_MAKE_ONE}, and name it there")]
        )
    named = [("connections.key_file", config.key_file)]
    named += [(f"connections.other_key_files[{n}]", path) for n, path in enumerate(config.other_key_files)]
    found: list[Key] = []
    problems: list[Problem] = []
    for option, path in named:
        try:
            found.append(read_key(path, option))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return Keys(found[0], found[1:])


def read_key(path: Path, option: str) -> Key:
    """Read a key file: 32 bytes as 64 hexadecimal digits or as base64, and nothing else.

    Raises ConfigError about the option, which never quotes the file. Raw bytes are not accepted, because any text of 32
    characters would pass for a key.
    """
    try:
        data = _read_guarded(path)
        key = _parsed(data)
    except (OSError, ValueError) as error:
        why = why_unreadable(error)
        verb = "cannot be read" if isinstance(error, OSError) else "cannot be used as a key"
        raise ConfigError([Problem(option, f"{path} {verb}: {why}")]) from None  # an error could quote the key
    return Key(key)


def write_new_key(path: Path) -> Key:
    """Write a new random key to a file that only its owner may read. Raises ConfigError if the file is there."""
    key = Key(secrets.token_bytes(KEY_BYTES))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{key.secret.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        why = "is there already; a key that is replaced makes unreadable what it has encrypted: choose another name"
        raise ConfigError([Problem("FILE", f"{path} {why}")]) from None
    except OSError as error:
        raise ConfigError([Problem("FILE", f"{path} cannot be written: {why_unreadable(error)}")]) from error
    return key


def _read_guarded(path: Path) -> bytes:
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise ValueError(f"its mode {mode:04o} lets others read or change it: chmod 600 {path}")
        return file.read(_LONGEST_FILE_BYTES + 1)


def _parsed(data: bytes) -> bytes:
    if len(data) > _LONGEST_FILE_BYTES:
        raise ValueError(f"it is too long, more than {_LONGEST_FILE_BYTES} bytes; {HOW_TO_MAKE_ONE}")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError(f"it is no text; {HOW_TO_MAKE_ONE}") from None
    if not text:
        raise ValueError(f"it is empty; {HOW_TO_MAKE_ONE}")
    if _HEX.fullmatch(text):
        _require_length(len(text), 2 * KEY_BYTES, "hexadecimal digits")
        key = bytes.fromhex(text)
    else:
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise ValueError(f"it is neither hexadecimal digits nor base64; {HOW_TO_MAKE_ONE}") from None
        _require_length(len(key), KEY_BYTES, "bytes in base64")
    if len(set(key)) < _FEWEST_DISTINCT:
        raise ValueError(f"its bytes are not random; {HOW_TO_MAKE_ONE}")
    return key


def _require_length(found: int, wanted: int, unit: str) -> None:
    if found != wanted:
        size = "short" if found < wanted else "long"
        raise ValueError(f"it is too {size}, {found} {unit} instead of {wanted}; {HOW_TO_MAKE_ONE}")
