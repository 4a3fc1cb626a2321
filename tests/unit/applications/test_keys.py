"""Which key files are accepted, and what is said of the others: the file, the reason, and nothing of its content."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from ingestd.applications.keys import Keys, keys_of, read_key, write_new_key
from ingestd.config.connections import ConnectionsConfig
from ingestd.config.loading import load
from ingestd.errors import ConfigError

SECRET = bytes(range(7, 39))
HEX = SECRET.hex()


def written(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    file = folder / "a.key"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)
    return file


def refused(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_key(file, "connections.key_file")
    (problem,) = caught.value.problems
    assert problem.path == "connections.key_file"
    assert str(file) in problem.message
    assert caught.value.__cause__ is None
    return problem.message


@pytest.mark.parametrize(
    "text", [HEX, HEX.upper() + "\n", base64.b64encode(SECRET).decode() + "\n", f"  {HEX}\r\n", f"\ufeff{HEX}"]
)
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_hexadecimal_digits_and_base64_are_keys(tmp_path: Path, text: str, mode: int) -> None:
    assert read_key(written(tmp_path, text, mode), "x").secret == SECRET


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (base64.b64encode(SECRET[:31]), "too short, 31 bytes"),
        (base64.b64encode(SECRET + b"x"), "too long, 33 bytes"),
        (HEX[:-1], "too short, 63 hexadecimal digits instead of 64"),
        ("correct horse battery staple 123", "neither hexadecimal digits nor base64"),
        (bytes(range(200, 232)), "no text"),
        ("00" * 32, "not random"),
        (HEX * 100, "too long"),
        (base64.b64encode(SECRET * 100), "too long, more than 1024 bytes"),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: str | bytes, said: str) -> None:
    message = refused(written(tmp_path, content))
    assert said in message
    shown = content if isinstance(content, str) else content.decode("ascii", "replace")
    assert not shown or shown[:12] not in message


@pytest.mark.parametrize("mode", [0o604, 0o606, 0o620, 0o644, 0o601])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, HEX, mode)
    assert f"its mode {mode:04o} lets others read or change it: chmod 600 {file}" in refused(file)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing")
    assert "it is no regular file" in refused(Path("/dev/zero"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "it is no regular file" in refused(pipe)
    assert "cannot be read" in refused(tmp_path)


def test_a_new_key_is_its_owner_s_and_replaces_nothing(tmp_path: Path) -> None:
    file = tmp_path / "new.key"
    old_mask = os.umask(0)
    try:
        key = write_new_key(file)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file, "x") == key
    with pytest.raises(ConfigError, match="is there already"):
        write_new_key(file)
    assert read_key(file, "x") == key
    assert write_new_key(tmp_path / "other.key").secret != key.secret


def test_all_configured_files_are_read_and_each_mistake_is_told(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("new", "old", "missing", "short")]
    new, old = (write_new_key(file) for file in files[:2])
    files[3].write_text("short")
    files[3].chmod(0o600)
    keys = keys_of(ConnectionsConfig(key_file=files[0], other_key_files=[files[1]]))
    assert keys.writing == new
    assert set(keys.by_id.values()) == {new, old}
    with pytest.raises(ConfigError) as caught:
        keys_of(ConnectionsConfig(key_file=files[0], other_key_files=files[2:]))
    assert [problem.path for problem in caught.value.problems] == [
        "connections.other_key_files[0]",
        "connections.other_key_files[1]",
    ]
    with pytest.raises(ConfigError, match="key_file: names no file; make one with"):
        keys_of(ConnectionsConfig())


def test_relative_paths_begin_at_the_configuration_s_folder(tmp_path: Path) -> None:
    key, other = write_new_key(tmp_path / "new.key"), write_new_key(tmp_path / "old.key")
    file = tmp_path / "ingestd.toml"
    file.write_text('[connections]\nkey_file = "new.key"\nother_key_files = ["old.key"]\n')
    assert set(keys_of(load(file, {}).connections).by_id.values()) == {key, other}


def test_a_key_is_not_shown(tmp_path: Path) -> None:
    key = read_key(written(tmp_path, HEX), "x")
    for text in (repr(key), repr(Keys(key)), str([key]), f"{key}"):
        assert HEX not in text
        assert repr(SECRET) not in text
    assert key.id.hex() not in HEX
