"""Kafka brokers for tests: a real Apache Kafka where Maven and Java are there, and the embedded one.

Apache Kafka (KRaft, one node) runs from its jars, which Maven fetches once into a cache. Each run of the tests starts
the brokers it needs once; a test that stops or breaks one starts its own. `kafka_prefix` keeps the tests apart.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

from ingestd.config.models import KafkaConfig
from ingestd.lab.sim.child import free_port
from ingestd.lab.sim.embedded_kafka import EmbeddedKafka
from tests.support.maven import can_fetch, jars_of
from tests.support.server_kinds import kinds_for

BROKERS = ("apache-kafka", "embedded")
_POM = Path(__file__).parent / "kafka" / "pom.xml"
_START_TIMEOUT_S = 240.0
_JAVA = ("java", "-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_used: set[str] = set()


class Broker(Protocol):
    """What a test may do to a broker."""

    @property
    def bootstrap(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def settings(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Secured:
    """Who may come in by the secured listener, and the certificate (with its key, PEM) that it shows."""

    user: str
    password: str
    certificate: Path

    @classmethod
    def create(cls, folder: Path) -> Secured:
        """With a certificate of its own for 127.0.0.1, made by openssl."""
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        subject = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key)]
        subprocess.run([*command, "-out", str(certificate), *subject], check=True, capture_output=True)
        (folder / "both.pem").write_text(key.read_text() + certificate.read_text())
        return cls("ingestd", "hunter22", folder / "both.pem")

    def properties(self, port: int, controller_port: int, secured_port: int) -> dict[str, Any]:
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        public = f"PLAINTEXT://127.0.0.1:{port},SECURED://127.0.0.1:{secured_port}"
        return {
            "listeners": f"{public},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": public,
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.secured.plain.sasl.jaas.config": f'{plain} user_{self.user}="{self.password}";',
            "listener.name.secured.scram-sha-512.sasl.jaas.config": scram,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.certificate,
        }


class ApacheKafka:
    """One broker that is its own controller. `stop` is a kill; its data survives until `remove`.

    `secured` gives it a second listener, for clients with a password (SCRAM-SHA-512 or PLAIN) over TLS.
    """

    def __init__(self, jars: Path, secured: Secured | None = None) -> None:
        self._secured = secured
        self._secured_port = free_port()
        self._classpath = f"{jars}/*"
        self.home = Path(tempfile.mkdtemp(prefix="ingestd-kafka-"))
        self._port, self._controller_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (self.home / "server.properties").write_text(self._properties(), encoding="utf-8")
        # An id that begins with a dash would pass for an option.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        command = [*_JAVA, "-cp", self._classpath, "kafka.tools.StorageTool", "format", "-t", cluster]
        if secured is not None:
            command += ["--add-scram", f"SCRAM-SHA-512=[name={secured.user},password={secured.password}]"]
        subprocess.run([*command, "-c", str(self.home / "server.properties")], check=True, capture_output=True)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def secured_bootstrap(self) -> str:
        return f"127.0.0.1:{self._secured_port}"

    def settings(self) -> dict[str, Any]:
        return {"bootstrap_servers": [self.bootstrap]}

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_JAVA, "-cp", self._classpath, "kafka.Kafka", self.home / "server.properties"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            time.sleep(0.05)
        text = (self.home / "log").read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"Apache Kafka did not start:\n{text}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _properties(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.home / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            # A killed broker may come back at once: its old registration expires in a second.
            "broker.session.timeout.ms": 1000,
            "broker.heartbeat.interval.ms": 200,
        }
        if self._secured is not None:
            settings |= self._secured.properties(self._port, self._controller_port, self._secured_port)
        return "".join(f"{name}={value}\n" for name, value in settings.items())


def apache_jars() -> Path:
    """The folder of Apache Kafka's jars, fetched on first use; skips the test, with the reason, where that fails."""
    return jars_of(_POM, "kafka-3.9.1", "Apache Kafka")


@contextmanager
def running_broker(kind: str) -> Iterator[Broker]:
    """A broker of this kind for the caller alone; skips the test, with the reason, where there is none."""
    if kind == "apache-kafka":
        with ApacheKafka(apache_jars()) as apache:
            _used.add("Apache Kafka 3.9.1")
            yield apache
    else:
        with EmbeddedKafka() as embedded:
            _used.add("the embedded Kafka-compatible broker")
            yield embedded


def frozen(broker: Broker) -> contextlib.AbstractContextManager[None]:
    """The broker stopped in its tracks (SIGSTOP) for the length of the block."""

    @contextmanager
    def freeze() -> Iterator[None]:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(broker.pid, signal.SIGCONT)

    return freeze()


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[Broker]:
    """The Apache Kafka of this run, or a skip with the reason."""
    with running_broker("apache-kafka") as broker:
        yield broker


@pytest.fixture(scope="session")
def embedded_kafka() -> Iterator[Broker]:
    """The embedded broker of this run."""
    with running_broker("embedded") as broker:
        yield broker


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each kind of broker in turn."""
    if "kafka" in metafunc.fixturenames:
        preferred = "apache-kafka" if can_fetch() else "embedded"
        metafunc.parametrize("kafka", kinds_for(metafunc, BROKERS, preferred), indirect=True)


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> Broker:
    """One kind of broker."""
    name = {"apache-kafka": "apache_kafka", "embedded": "embedded_kafka"}[request.param]
    found: Broker = request.getfixturevalue(name)
    return found


@pytest.fixture
def kafka_config(kafka: Broker) -> KafkaConfig:
    """A configuration for this broker with topics of the test's own."""
    return config_for(kafka)


def config_for(broker: Broker, **changes: Any) -> KafkaConfig:
    """The `[kafka]` section for a broker, with a prefix of its own and no patience."""
    values = {
        "topic_prefix": f"t{uuid.uuid4().hex[:10]}",
        "partitions": 3,
        "flush_ms": 5,
        "request_timeout_s": 5,
        "retention_hours": 876_000,  # the tests' records are of a fixed day: a broker would soon let them go
        **broker.settings(),
        **changes,
    }
    return KafkaConfig.model_validate(values)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of a run in parallel tells the one that prints."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["brokers"] = sorted(_used)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has met."""
    _used.update(getattr(node, "workeroutput", {}).get("brokers", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which brokers the tests have met."""
    if _used:
        terminalreporter.write_line(f"Kafka tests ran against: {', '.join(sorted(_used))}")
