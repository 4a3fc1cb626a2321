"""A sealed secret that is moved, cut or changed is refused, and the refusal shows nothing of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingestd.applications.keys import Key, Keys
from ingestd.applications.sealing import Place, seal, unseal
from ingestd.errors import SealBroken

KEYS = Keys(Key(bytes(range(32))), [Key(bytes(range(1, 33)))])
SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
PLACES = st.builds(
    Place,
    column=st.sampled_from(["api_key_encrypted", "api_secret_encrypted"]),
    connection_id=st.integers(1, 2**31 - 1),
    user_id=st.none() | st.integers(1, 2**31 - 1),
    exchange=st.text(min_size=1, max_size=20),
)


def refused(sealed: bytes, place: Place, secret: str) -> None:
    with pytest.raises(SealBroken) as caught:
        unseal(sealed, KEYS, place)
    assert len(secret) < 4 or secret not in str(caught.value)


@given(secret=SECRETS, place=PLACES)
def test_in_its_place_it_is_read(secret: str, place: Place) -> None:
    assert unseal(seal(secret, KEYS, place), KEYS, place) == secret


@given(secret=SECRETS, place=PLACES, other=PLACES)
def test_in_another_place_it_is_refused(secret: str, place: Place, other: Place) -> None:
    assume(place != other)
    sealed = seal(secret, KEYS, place)
    refused(sealed, other, secret)
    # One difference is enough.
    for column in ("api_key_encrypted", "api_secret_encrypted"):
        if column != place.column:
            refused(sealed, replace(place, column=column), secret)
    refused(sealed, replace(place, connection_id=place.connection_id + 1), secret)
    refused(sealed, replace(place, user_id=None if place.user_id else 1), secret)
    refused(sealed, replace(place, exchange=place.exchange + "2"), secret)


@given(secret=SECRETS, place=PLACES, data=st.data())
def test_cut_or_changed_it_is_refused(secret: str, place: Place, data: st.DataObject) -> None:
    sealed = seal(secret, KEYS, place)
    at = data.draw(st.integers(0, len(sealed) - 1))
    refused(sealed[:at], place, secret)
    refused(sealed[at + 1 :], place, secret)
    refused(sealed + sealed[: at + 1], place, secret)
    changed = bytearray(sealed)
    changed[at] ^= data.draw(st.integers(1, 255))
    refused(bytes(changed), place, secret)


@given(data=st.binary(max_size=200), place=PLACES)
def test_what_was_never_sealed_is_refused(data: bytes, place: Place) -> None:
    refused(data, place, "")
    refused(b"\x01" + KEYS.writing.id + data, place, "")
