"""Servers of line protocol for tests: the machine's InfluxDB 1, and QuestDB where Maven and Java are there."""

from __future__ import annotations

import json
import re
import shutil
import time
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
from tests.support.maven import jars_of

_POM = Path(__file__).parent / "questdb" / "pom.xml"
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


class QuestDb(EmbeddedServer):
    """QuestDB, which has one database. It keeps nothing after `stop`."""

    _name = "QuestDB"

    def __init__(self) -> None:
        super().__init__()
        self._jars = jars_of(_POM, "questdb-9.3.4", "QuestDB")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def config(self, **changes: Any) -> InfluxConfig:
        """The section for it, with little patience."""
        return Bucket(self.url, "trading").config(**changes)

    def query(self, text: str) -> list[dict[str, Any]]:
        """The rows of a statement in SQL, once all that was written can be read."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while self._rows("SELECT name FROM wal_tables() WHERE writerTxn < sequencerTxn"):
            assert time.monotonic() < deadline_s, "what was written cannot be read yet"
            time.sleep(0.02)
        return self._rows(text)

    def empty(self) -> None:
        """Drop every table."""
        for row in self._rows("SELECT table_name FROM tables()"):
            self._rows(f"DROP TABLE '{row['table_name']}'")

    def _rows(self, text: str) -> list[dict[str, Any]]:
        with urlopen(f"{self.url}/exec?{urlencode({'query': text})}", timeout=_TIMEOUT_S) as reply:
            answer = json.load(reply)
        columns = [column["name"] for column in answer.get("columns", [])]
        return [dict(zip(columns, row, strict=True)) for row in answer.get("dataset", [])]

    def _command(self) -> Sequence[str | Path]:
        (self._home / "conf").mkdir(exist_ok=True)
        (self._home / "conf" / "server.conf").write_text(
            f"http.bind.to=127.0.0.1:{self.port}\nhttp.min.enabled=false\nline.tcp.enabled=false\npg.enabled=false\n"
            "telemetry.enabled=false\nshared.worker.count=1\n"
        )
        java = ("java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        return [*java, "-p", self._jars, "-m", "io.questdb/io.questdb.ServerMain", "-d", self._home]

    def _is_ready(self, pid: int) -> bool:
        try:
            with urlopen(f"{self.url}/ping", timeout=1) as reply:
                return bool(reply.status == 204)
        except (URLError, OSError):
            return False


def questdb_tables() -> list[str]:
    """The statements of docs/influx.md that make QuestDB's tables."""
    page = (Path(__file__).parents[2] / "docs" / "influx.md").read_text(encoding="utf-8")
    found = [text for text in re.findall(r"```questdb\n(.*?)```", page, re.DOTALL) if text.startswith("CREATE TABLE")]
    return [statement for text in found for statement in text.split(";\n") if statement.strip()]


@pytest.fixture(scope="session")
def _questdb() -> Iterator[QuestDb]:
    with QuestDb() as server:
        yield server


@pytest.fixture
def questdb(_questdb: QuestDb) -> QuestDb:
    """The QuestDB of this run without any table, or a skip with the reason."""
    _questdb.empty()
    return _questdb


@pytest.fixture(scope="session")
def influx1() -> Iterator[Influx1]:
    """The InfluxDB 1 of this run, or a skip with the reason."""
    with Influx1() as server:
        yield server
