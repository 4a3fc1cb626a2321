"""The form of a sealed secret, opened here by the library alone, as the page describes it."""

from __future__ import annotations

import builtins
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ingestd.applications.keys import Key, Keys
from ingestd.applications.sealing import LONGEST_SECRET_BYTES, Place, key_id_of, seal, unseal
from ingestd.errors import ConfigError, SealBroken

OLD, NEW = Key(bytes(range(32))), Key(bytes(range(32, 64)))
PLACE = Place("api_key_encrypted", 12, 7, "binance")
SECRET = "pbSecret-7Zx9q"


def test_a_sealed_secret_has_the_documented_form() -> None:
    sealed = seal(SECRET, Keys(NEW, [OLD]), PLACE)
    key_id = hashlib.sha256(b"ingestd key id\x00" + bytes(range(32, 64))).digest()[:8]
    assert sealed[:9] == b"\x01" + key_id
    assert key_id_of(sealed) == key_id
    assert len(sealed) == 9 + 12 + len(SECRET) + 16
    bound = ["platform.exchange_connections", sealed[:9].hex(), "api_key_encrypted", 12, 7, "binance"]
    plain = AESGCM(bytes(range(32, 64))).decrypt(sealed[9:21], sealed[21:], json.dumps(bound).encode())
    assert plain == SECRET.encode()


def test_no_nonce_comes_twice() -> None:
    sealed = [seal(SECRET, Keys(NEW), PLACE) for _ in range(1000)]
    assert len({text[9:21] for text in sealed}) == 1000
    assert len(set(sealed)) == 1000


def test_each_key_that_is_given_reads() -> None:
    sealed = seal(SECRET, Keys(OLD), PLACE)
    assert unseal(sealed, Keys(NEW, [OLD]), PLACE) == SECRET
    with pytest.raises(SealBroken) as caught:
        unseal(sealed, Keys(NEW), PLACE)
    assert f"encrypted with the key {OLD.id.hex()}, which is not given" in str(caught.value)
    assert "connections.other_key_files" in str(caught.value)


@pytest.mark.parametrize("secret", ["", "x" * (LONGEST_SECRET_BYTES + 1), "é" * LONGEST_SECRET_BYTES])
def test_what_is_empty_or_too_long_is_not_sealed(secret: str) -> None:
    with pytest.raises(ValueError, match="a secret has 1 to 8192 bytes") as caught:
        seal(secret, Keys(NEW), PLACE)
    assert not secret or secret not in str(caught.value)


def test_what_is_no_text_is_not_sealed_and_not_shown() -> None:
    with pytest.raises(ValueError, match="this is no text") as caught:
        seal(f"{SECRET}\ud800", Keys(NEW), PLACE)
    assert SECRET not in repr(caught.value)
    assert caught.value.__suppress_context__


def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"needs cryptography: .*install the extra connections"):
        seal(SECRET, Keys(NEW), PLACE)
