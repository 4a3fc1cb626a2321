"""What the daemon keeps between runs is for its user alone, and no other file is taken for one of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingestd import files
from ingestd.config.models import FeedConfig, JournalConfig
from ingestd.errors import JournalError, SinkStateError
from ingestd.feeds.markets.cache import MarketCache
from ingestd.intake.stream_state import StreamState
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from ingestd.sinks.cursor_file import CursorFile


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


def open_journal(state_dir: Path) -> None:
    journal = Journal(state_dir, JournalConfig(), Metrics())
    with closing(journal):
        journal.open()


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Set after pytest has made its own folder, which nobody but root could enter with the last one."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_files_are_for_their_user_whatever_the_umask(tmp_path: Path) -> None:
    state = tmp_path / "above" / "state"
    open_journal(state)
    files.replace(state / "streams.json", b"{}")
    files.replace(state / "streams.json", b"{}")
    MarketCache(state, FeedConfig(exchange="binance", symbols=["BTC/USDT"])).write([{"symbol": "BTC/USDT"}])
    found = modes(tmp_path / "above")
    assert len(found) > 6
    wrong = {name for name, mode in found.items() if mode != (0o700 if (tmp_path / "above" / name).is_dir() else 0o600)}
    assert not wrong, {name: oct(found[name]) for name in wrong}


def test_a_journal_of_an_earlier_version_is_closed_to_others(tmp_path: Path) -> None:
    open_journal(tmp_path)
    old = tmp_path / "journal" / "bad"
    old.mkdir()
    (old / "kept.msgpack").write_bytes(b"x")
    for path in (tmp_path / "journal", old):
        path.chmod(0o755)
    for path in (tmp_path / "lock", old / "kept.msgpack"):
        path.chmod(0o644)
    open_journal(tmp_path)
    found = modes(tmp_path)
    assert {found["journal"], found["journal/bad"]} == {0o700}
    assert {found["lock"], found["journal/bad/kept.msgpack"]} == {0o600}


def symbolic_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("to-be-made"))


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def fifo(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, _victim: Path) -> None:
    path.mkdir()


def somebody_elses(path: Path, _victim: Path) -> None:
    path.write_text("process 1 on a host")
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (symbolic_link, "lock is a symbolic link"),
        (dangling_link, "lock is a symbolic link"),
        (hard_link, "lock is a hard link to another file"),
        (fifo, "lock is no plain file"),
        (directory, "lock is no plain file"),
    ],
)
def test_the_lock_is_a_file_of_our_own(plant: Callable[[Path, Path], None], said: str, tmp_path: Path) -> None:
    victim, state = tmp_path / "victim", tmp_path / "state"
    victim.write_text("worth keeping")
    state.mkdir()
    plant(state / "lock", victim)
    with pytest.raises(JournalError, match=f"{said}: find out who put it there, and remove it"):
        open_journal(state)
    assert victim.read_text() == "worth keeping"
    assert not (tmp_path / "to-be-made").exists()


@pytest.mark.parametrize("plant", [symbolic_link, dangling_link, hard_link, fifo, directory])
def test_nothing_else_is_written_through_a_planted_name(plant: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """In a directory that others can write to."""
    victim, path = tmp_path / "victim", tmp_path / "streams.json"
    victim.write_text("worth keeping")
    plant(tmp_path / "streams.json.part", victim)
    if plant is directory:
        with pytest.raises(OSError, match="directory"):
            files.replace(path, b"ours")
    else:
        files.replace(path, b"ours")
        assert path.read_bytes() == b"ours"
    assert victim.read_text() == "worth keeping"
    assert not (tmp_path / "to-be-made").exists()


@pytest.mark.parametrize("plant", [symbolic_link, fifo, directory])
def test_nothing_is_read_through_a_planted_name(plant: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """And a FIFO is not waited for."""
    victim = tmp_path / "victim"
    victim.write_text("{}")
    for name in ("streams.json", "kafka.cursor"):
        plant(tmp_path / name, victim)
    StreamState(tmp_path).load()
    with pytest.raises(SinkStateError, match=r"kafka\.cursor cannot be read: kafka\.cursor is"):
        CursorFile(tmp_path, "kafka").load(["a"])


def test_what_is_replaced_is_durable_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power at any moment leaves the old content or the new one."""
    path = tmp_path / "streams.json"
    path.write_bytes(b"old")
    steps: list[tuple[str, bytes]] = []
    real_sync, real_rename = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append(("directory" if is_directory else "content", path.read_bytes()))

    def rename(old: Path, new: Path) -> None:
        real_rename(old, new)
        steps.append(("renamed", path.read_bytes()))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    files.replace(path, b"new")
    assert steps == [("content", b"old"), ("renamed", b"new"), ("directory", b"new")]
