"""What reaches systemd's socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.ops.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@ingestd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0") if name.startswith("@") else name)
        receiver.settimeout(5)
        yield receiver, {"NOTIFY_SOCKET": name}


def test_every_state_arrives(listener: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environ = listener
    notifier = Notifier(environ)
    assert notifier.ready("2 feeds")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=2 feeds"
    assert notifier.ready()
    assert receiver.recv(4096) == b"READY=1"
    assert notifier.watchdog()
    assert receiver.recv(4096) == b"WATCHDOG=1"
    assert notifier.stopping("draining")
    assert receiver.recv(4096) == b"STOPPING=1\nSTATUS=draining"


def test_a_reload_carries_the_monotonic_clock(listener: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environ = listener
    before = time.monotonic_ns() // 1000
    assert Notifier(environ).reloading()
    state, _, stamp = receiver.recv(4096).decode().partition("\n")
    assert state == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_a_status_cannot_smuggle_in_a_state(listener: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environ = listener
    assert Notifier(environ).stopping("down\nREADY=1\n")
    assert receiver.recv(4096) == b"STOPPING=1\nSTATUS=down READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "x"}])
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    assert not any([notifier.ready(), notifier.watchdog(), notifier.reloading(), notifier.stopping()])


def test_a_socket_nobody_reads_does_no_harm(tmp_path: Path) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_a_full_socket_does_not_block(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "deaf")})
        assert not all(notifier.watchdog() for _ in range(2000))


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(environ: dict[str, str], interval_s: float | None) -> None:
    assert Notifier(environ).watchdog_interval_s == interval_s
