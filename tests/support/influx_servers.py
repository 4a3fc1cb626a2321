"""Servers of line protocol for tests: the machine's InfluxDB 1, where there is one."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from ingestd.lab.sim.child import EmbeddedServer, free_port
from ingestd.sinks.influx.options import InfluxConfig

_TIMEOUT_S = 30


def influxd() -> Path:
    """The program; skips the test, with the reason, where there is none."""
    found = shutil.which("influxd")
    if found is None:
        pytest.skip("no influxd on this machine (Debian: apt install influxdb)")
    return Path(found)


class Influx1(EmbeddedServer):
    """InfluxDB 1. `stop` kills it; its data survives in a `directory`. `limits`: lines of its section `[data]`."""

    _name = "InfluxDB"

    def __init__(self, limits: str = "", *, with_users: bool = False, directory: Path | None = None) -> None:
        super().__init__(directory)
        self._binary = influxd()
        self._limits = limits
        self._with_users = with_users
        self._inner_port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def database(self, retention: str = "") -> Bucket:
        """A new database, such as with `DURATION 30d` for its default retention policy."""
        made = Bucket(self.url, f"t{uuid.uuid4().hex[:10]}")
        made.query(f'CREATE DATABASE "{made.name}"' + (f" WITH {retention}" if retention else ""))
        return made

    def database_with_user(self, user: str, password: str) -> Bucket:
        """A new database on a server with users; its user is the administrator. Beside the default retention policy it
        has the policy `short`."""
        Bucket(self.url, "").query(f"CREATE USER \"{user}\" WITH PASSWORD '{password}' WITH ALL PRIVILEGES")
        made = Bucket(self.url, f"t{uuid.uuid4().hex[:10]}", (user, password))
        made.query(f'CREATE DATABASE "{made.name}"')
        made.query(f'CREATE RETENTION POLICY "short" ON "{made.name}" DURATION 9000w REPLICATION 1')
        return made

    def _command(self) -> Sequence[str | Path]:
        home, flag = self._home, str(self._with_users).lower()
        (home / "influxdb.conf").write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{self._inner_port}"\n'
            f'[meta]\ndir = "{home}/meta"\n'
            f'[data]\ndir = "{home}/data"\nwal-dir = "{home}/wal"\n{self._limits}\n'
            f'[http]\nbind-address = "127.0.0.1:{self.port}"\nauth-enabled = {flag}\nlog-enabled = false\n'
            "[monitor]\nstore-enabled = false\n[logging]\nlevel = 'warn'\n".replace("'", '"')
        )
        return [self._binary, "-config", home / "influxdb.conf"]

    def _is_ready(self, pid: int) -> bool:
        try:
            with urlopen(f"{self.url}/ping", timeout=1) as reply:
                return bool(reply.status == 204)
        except (URLError, OSError):
            return False


class Bucket:
    """One database, asked as any client asks it."""

    def __init__(self, url: str, name: str, user: tuple[str, str] | None = None) -> None:
        self.url, self.name = url, name
        self._login = {} if user is None else {"u": user[0], "p": user[1]}

    def config(self, **changes: Any) -> InfluxConfig:
        """The section for it, with little patience."""
        values = {"url": self.url, "bucket": self.name, "flush_ms": 1, "request_timeout_s": 5, **changes}
        return InfluxConfig.model_validate(values)

    def write(self, *lines: str) -> None:
        """Write lines as they are."""
        parameters = urlencode({"db": self.name, "precision": "ns"})
        urlopen(f"{self.url}/write?{parameters}", "\n".join(lines).encode(), timeout=_TIMEOUT_S).close()

    def query(self, text: str) -> list[dict[str, Any]]:
        """The rows of a query in InfluxQL, of all series, each with its tags; times are nanoseconds."""
        body = urlencode({"db": self.name, "q": text, "epoch": "ns"}).encode()
        with urlopen(Request(f"{self.url}/query?{urlencode(self._login)}", body), timeout=_TIMEOUT_S) as reply:
            (result,) = json.load(reply)["results"]
        assert "error" not in result, result
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], values, strict=True))}
            for series in result.get("series", [])
            for values in series["values"]
        ]

    def values(self, measurement: str, field: str) -> list[Any]:
        """All values of a field, by time."""
        return [row[field] for row in self.query(f'SELECT "{field}" FROM "{measurement}"')]


@pytest.fixture(scope="session")
def influx1() -> Iterator[Influx1]:
    """The InfluxDB 1 of this run, or a skip with the reason."""
    with Influx1() as server:
        yield server
