"""Which signals stop a command, and which of them insist."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.cli import main
from ingestd.cli.signals import StopSignals, run_to_its_end
from ingestd.config.models import JournalConfig
from ingestd.errors import Interrupted
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
DEFAULTS: dict[signal.Signals, Any] = {TERM: signal.SIG_DFL, INT: signal.default_int_handler, HUP: signal.SIG_DFL}


@pytest.fixture(autouse=True)
def _as_started_in_a_terminal() -> Iterator[None]:
    """Under nohup or in the background the tests begin with SIGHUP or SIGINT ignored."""
    before = {number: signal.signal(number, handler) for number, handler in DEFAULTS.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("came", "forces"),
    [
        ([(TERM, 0)], False),
        ([(TERM, 0), (TERM, 0.004)], False),
        ([(TERM, 0), (TERM, 0.9)], False),
        ([(TERM, 0), (TERM, 3)], True),
        ([(TERM, 0), (TERM, 0.01), (TERM, 3)], True),
        ([(INT, 0), (INT, 0.5)], True),
        ([(INT, 0), (INT, 0.002)], False),
        ([(INT, 0), (INT, 0.002), (INT, 0.5)], True),
        ([(INT, 0), (TERM, 0.002)], False),
        ([(INT, 0), (TERM, 3)], True),
        ([(TERM, 0), (INT, 0.002)], False),
        ([(TERM, 0), (INT, 5)], False),
        ([(TERM, 0), (INT, 5), (INT, 6)], True),
        ([(HUP, 0), (TERM, 0.01)], False),
    ],
)
def test_only_who_insists_forces(came: list[tuple[signal.Signals, float]], forces: bool) -> None:
    stops = StopSignals()
    *before, last = [stops.forces(number, 100 + at_s) for number, at_s in came]
    assert not any(before)
    assert last is forces


@pytest.mark.parametrize("numbers", [[TERM, TERM], [TERM, INT], [INT, TERM], [INT, INT], [HUP, TERM], [TERM, HUP]])
def test_a_command_that_is_stopped_closes_what_it_opened(numbers: list[signal.Signals]) -> None:
    closed: list[str] = []

    async def work() -> None:
        try:
            for number in numbers:
                os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            closed.append("all of it")

    with pytest.raises(Interrupted, match=f"^ended by {numbers[0].name} before it was done$"):
        run_to_its_end(work())
    assert closed == ["all of it"]
    assert [signal.getsignal(number) for number in (TERM, INT, HUP)] == list(DEFAULTS.values())


def test_a_second_ctrl_c_cuts_off_what_is_waited_for() -> None:
    interrupting = threading.Event()

    async def work() -> None:
        try:
            interrupting.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()  # a server that never goes away

    released = threading.Event()

    def press_until_released() -> None:  # two that wait for a busy process are one
        interrupting.wait()
        while not released.wait(0.15):
            os.kill(os.getpid(), INT)

    person = threading.Thread(target=press_until_released)
    person.start()
    before = signal.signal(INT, lambda *_: None)  # a press may come just after the command has ended
    try:
        with pytest.raises(Interrupted):
            run_to_its_end(work())
    finally:
        released.set()
        person.join()
        signal.signal(INT, before)


def test_a_signal_before_the_loop_runs_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the exchange library is loaded, which takes a second."""
    from ingestd.cli import loading

    load = loading.load_runnable

    def slowly(file: Path, role: str | None) -> object:
        os.kill(os.getpid(), HUP)  # such as that of `systemctl reload`, or of somebody who waits for no start
        os.kill(os.getpid(), TERM)
        os.kill(os.getpid(), TERM)
        return load(file, role)

    monkeypatch.setattr(loading, "load_runnable", slowly)
    file = tmp_path / "ingestd.toml"
    state = tmp_path / "state"
    file.write_text(
        f'[instance]\nstate_dir = "{state}"\n[log]\nformat = "json"\n[database]\ndsn = "postgresql://u@127.0.0.1:1/d"\n'
        '[[feeds]]\nexchange = "binance"\nsymbols = ["BTC/USDT"]\nchannels = ["trades"]\n'
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", "-c", str(file)])
    assert ended.value.code == 0
    assert "stopped_before_the_start" in capsys.readouterr().err
    assert not state.exists()


@pytest.mark.parametrize("role", ["all", "sink"])
def test_a_stop_while_the_database_says_nothing_is_not_waited_with(
    role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d"

        def stop_once_it_is_asked() -> None:
            with silent.accept()[0]:
                for _ in range(2):
                    os.kill(os.getpid(), TERM)
                ended.wait(30)

        ended = threading.Event()
        stopper = threading.Thread(target=stop_once_it_is_asked)
        stopper.start()
        file = tmp_path / "ingestd.toml"
        file.write_text(
            f'[instance]\nstate_dir = "{state}"\nrole = "{role}"\n[log]\nformat = "json"\n[http]\n'
            f'listen = "127.0.0.1:0"\n[database]\ndsn = "{database}"\nconnect_timeout_s = 30.0\n'
            '[kafka]\nbootstrap_servers = ["127.0.0.1:1"]\n'
            '[[feeds]]\nexchange = "binance"\nsymbols = ["BTC/USDT"]\nchannels = ["trades"]\n'
        )
        before_s = time.monotonic()
        with pytest.raises(SystemExit) as end:
            main(["run", "-c", str(file)])
        took_s = time.monotonic() - before_s
        ended.set()
        stopper.join()
    assert end.value.code == 0
    assert took_s < 10
    log = capsys.readouterr().err
    assert "stopped_before_the_start" in log
    assert "forced_exit" not in log
    if role == "all":
        Journal(state, JournalConfig(), Metrics()).open()  # nobody holds it any more
