"""Encrypts a secret for one place: with AES-256-GCM, bound to the place, under a random nonce.

The only file that imports `cryptography`. A sealed secret is

    version (1 byte: 1) | id of the key (8) | nonce (12) | ciphertext, as long as the secret | tag (16)

and its associated data are the version, the key's id and the place, so that no sealed secret is valid in another row,
column or table. The nonce is random for each: one key should seal at most 2^32 secrets.
"""

from __future__ import annotations

import json
import os
from dataclasses import astuple, dataclass
from typing import Any

from ingestd.applications.keys import ID_BYTES, Key, Keys
from ingestd.errors import ConfigError, Problem, SealBroken

NONCE_BYTES = 12
TAG_BYTES = 16
LONGEST_SECRET_BYTES = 8192

_VERSION = b"\x01"
_HEAD_BYTES = len(_VERSION) + ID_BYTES + NONCE_BYTES


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret is stored: a column of a row, and whose row it is."""

    column: str
    connection_id: int
    user_id: int | None
    exchange: str

    def __str__(self) -> str:
        return f"{self.column} of the connection {self.connection_id}"


def seal(secret: str, keys: Keys, place: Place) -> bytes:
    """Encrypt a secret under the writing key. Raises ValueError for one that is empty, too long or no text."""
    try:
        plain = secret.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place}: this is no text that UTF-8 can hold") from None  # that error holds the secret
    if not 0 < len(plain) <= LONGEST_SECRET_BYTES:
        raise ValueError(f"{place}: a secret has 1 to {LONGEST_SECRET_BYTES} bytes, not {len(plain)}")
    head = _VERSION + keys.writing.id
    nonce = os.urandom(NONCE_BYTES)
    sealed: bytes = _cipher(keys.writing).encrypt(nonce, plain, _bound_to(head, place))
    return head + nonce + sealed


def unseal(sealed: bytes, keys: Keys, place: Place) -> str:
    """Decrypt a secret. Raises SealBroken if that is not possible, with the reason."""
    key_id = key_id_of(sealed)
    if key_id is None:
        raise SealBroken(f"{place}: this is no secret that ingestd has encrypted")
    key = keys.by_id.get(key_id)
    if key is None:
        raise SealBroken(
            f"{place}: encrypted with the key {key_id.hex()}, which is not given:"
            " add its file to connections.other_key_files"
        )
    head, nonce = sealed[: len(_VERSION) + ID_BYTES], sealed[len(_VERSION) + ID_BYTES : _HEAD_BYTES]
    cipher, refused = _cipher(key), _refusal()
    try:
        plain: bytes = cipher.decrypt(nonce, sealed[_HEAD_BYTES:], _bound_to(head, place))
    except refused:
        raise SealBroken(
            f"{place}: was changed after it was encrypted, or belongs to another row or column: put the connection anew"
        ) from None
    return plain.decode()


def key_id_of(sealed: bytes) -> bytes | None:
    """The id of the key that encrypted this; None if it is not of our form."""
    if not sealed.startswith(_VERSION) or len(sealed) <= _HEAD_BYTES + TAG_BYTES:
        return None
    return sealed[len(_VERSION) : len(_VERSION) + ID_BYTES]


def _bound_to(head: bytes, place: Place) -> bytes:
    return json.dumps(["platform.exchange_connections", head.hex(), *astuple(place)]).encode()


def _cipher(key: Key) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        hint = "install the extra connections of ingestd"
        raise ConfigError([Problem("connections", f"needs cryptography: {error}", hint=hint)]) from error
    return AESGCM(key.secret)


def _refusal() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag
