"""Compressed frames: what a venue sends comes out whole, a bomb does not."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.feeds.ccxt.unpacking import FrameTooLarge, unpacked


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@given(st.binary(max_size=5000), st.binary(max_size=100))
def test_what_was_packed_comes_out(first: bytes, second: bytes) -> None:
    assert unpacked(gzip.compress(first), gzip=True, limit_bytes=5000) == first
    assert unpacked(gzip.compress(first) + gzip.compress(second), gzip=True, limit_bytes=5100) == first + second
    assert unpacked(deflated(first), gzip=False, limit_bytes=5000) == first


@pytest.mark.parametrize("members", [1, 3])
def test_a_bomb_is_refused_in_little_memory(members: int) -> None:
    bomb = gzip.compress(bytes(200 * 2**20 // members), 1) * members
    tracemalloc.start()
    with pytest.raises(FrameTooLarge):
        unpacked(bomb, gzip=True, limit_bytes=2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_the_limit_is_the_last_byte_that_passes() -> None:
    packed = deflated(bytes(1000))
    assert unpacked(packed, gzip=False, limit_bytes=1000) == bytes(1000)
    with pytest.raises(FrameTooLarge):
        unpacked(packed, gzip=False, limit_bytes=999)


@pytest.mark.parametrize("cut", [1, 5, 15])
def test_a_frame_cut_short_is_damaged(cut: int) -> None:
    with pytest.raises(zlib.error):
        unpacked(gzip.compress(b"x" * 100)[:-cut], gzip=True, limit_bytes=1000)
