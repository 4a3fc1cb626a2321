"""Packing commands and counting replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sinks.redis.resp import Replies, error_class, pack, publish, publish_head
from tests.support.redis_model import parsed


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert pack(b"HSET", b"k", b"") == b"*3\r\n$4\r\nHSET\r\n$1\r\nk\r\n$0\r\n\r\n"


@given(commands=st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), max_size=5))
def test_packed_commands_are_read_back(commands: list[list[bytes]]) -> None:
    assert list(parsed(b"".join(pack(*command) for command in commands))) == commands


@given(channel=st.binary(max_size=20), message=st.binary(max_size=50))
def test_a_publish_with_its_head_kept_is_the_same_command(channel: bytes, message: bytes) -> None:
    assert publish(publish_head(channel), message) == pack(b"PUBLISH", channel, message)


@given(data=st.data(), lines=st.lists(st.sampled_from(["+OK", ":1", ":25", "-OOM no memory", "-ERR x"]), max_size=30))
def test_replies_are_counted_however_they_are_cut(data: st.DataObject, lines: list[str]) -> None:
    stream = "".join(f"{line}\r\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    replies = Replies()
    errors: list[tuple[int, str]] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        errors += replies.feed(stream[start:end])
    assert replies.count == len(lines)
    assert errors == [(number, line[1:]) for number, line in enumerate(lines) if line[0] == "-"]


def test_a_reply_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Redis server"):
        Replies().feed(b"x" * 100_000)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("OOM command not allowed", "OOM"), ("MOVED 866 10.0.0.1:6379", "MOVED"), ("Surprise 17", "other"), ("", "other")],
)
def test_the_classes_of_errors_are_bounded(text: str, kind: str) -> None:
    assert error_class(text) == kind
