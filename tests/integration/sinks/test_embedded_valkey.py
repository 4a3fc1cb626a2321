"""The embedded server: starts on a free port, comes back on the same, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingestd.lab.sim.child import EmbeddedServerError
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from tests.support.redis_servers import reader


def test_starts_is_killed_and_comes_back_where_it_was(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "home")
    with server:
        url = server.url
        with reader(url) as client:
            client.set("a", "1")
        with pytest.raises(RuntimeError, match="already started"):
            server.start()
        server.kill()
        assert server.pid is None
        server.start()
        assert server.url == url
        with reader(url) as client:
            assert client.get("a") is None
    server.stop()
    assert (tmp_path / "home" / "server.log").exists()


def test_a_wrong_setting_shows_the_servers_words() -> None:
    with pytest.raises(EmbeddedServerError, match="no-such-setting"):
        EmbeddedValkey(settings={"no-such-setting": "1"}).start()


def test_it_ends_with_the_program_that_started_it() -> None:
    code = (
        "from ingestd.lab.sim.embedded_valkey import EmbeddedValkey\n"
        "server = EmbeddedValkey()\nserver.start()\nprint(server.pid, flush=True)\nimport os\nos._exit(1)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    pid = int(result.stdout)
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline_s, "it still runs"
        time.sleep(0.02)
