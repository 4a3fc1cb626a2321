"""An option that has no effect any more is accepted, with one note."""

from __future__ import annotations

from ingestd.config.loading import deprecated, parse
from ingestd.config.section import effective


def test_a_pool_size_is_accepted_with_one_note() -> None:
    config = parse({"database": {"dsn": "postgresql://a@b/c", "pool_size": 2}}, {})
    [note] = deprecated(config)
    assert (note.path, note.hint) == ("database.pool_size", "take it out of the file")
    assert "no effect" in note.message


def test_a_file_without_it_has_no_note_and_shows_none() -> None:
    config = parse({"database": {"dsn": "postgresql://a@b/c"}}, {})
    assert deprecated(config) == []
    assert "pool_size" not in effective(config)["database"]
