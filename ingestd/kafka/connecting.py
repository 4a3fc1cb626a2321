"""Connects to brokers and creates topics, for every client of the Kafka library."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from aiokafka import errors as library
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts, create_conn

from ingestd.config.models import KafkaConfig
from ingestd.kafka.errors import our_error, translated, unreached

log = structlog.get_logger()

FRAME_BYTES = 128  # overhead of a message in a batch of its own: lengths, offsets, batch header; rounded up
_TOPIC_EXISTS = 36
_BROKERS_DEFAULT_BYTES = 1_048_588


def connection(config: KafkaConfig, client_id: str) -> dict[str, Any]:
    """The connection arguments for a client of the library. Reads the files of secrets."""
    security = {(False, False): "PLAINTEXT", (True, False): "SSL", (False, True): "SASL_PLAINTEXT"}
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(config.bootstrap_servers),
        "client_id": client_id,
        "request_timeout_ms": int(config.request_timeout_s * 1000),
        "security_protocol": security.get((config.tls, config.sasl_mechanism is not None), "SASL_SSL"),
        "ssl_context": _ssl_context(config) if config.tls else None,
    }
    if config.sasl_mechanism is not None:
        arguments["sasl_mechanism"] = config.sasl_mechanism
        arguments["sasl_plain_username"] = config.username
        arguments["sasl_plain_password"] = config.password()
    return arguments


def reach_timeout_s(config: KafkaConfig) -> float:
    """The time limit for trying all bootstrap servers, in seconds. The library limits each attempt itself."""
    return config.request_timeout_s * len(config.bootstrap_servers) + 1


async def reached(start: Callable[[], Awaitable[None]], config: KafkaConfig, client_id: str) -> None:
    """Start a client of the library. If it reports only that no server could be reached, find out the reason for each
    server and raise that: a refused password must not look like a broker that is away."""
    try:
        await start()
    except library.KafkaConnectionError as error:
        arguments = connection(config, client_id)
        reasons: list[str] = []
        for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers"), randomize=False):
            try:
                (await create_conn(host, port, **arguments)).close()
            except (library.KafkaConnectionError, OSError, TimeoutError) as why:
                reasons.append(f"{host}:{port} {unreached(why)}")
        raise library.KafkaConnectionError("; ".join(reasons) or str(error)) from error


async def ensure_topics(config: KafkaConfig, client_id: str, names: Sequence[str]) -> None:
    """Create the topics that do not exist, with the configured partitions, replication and retention."""
    retention_ms = config.retention_hours * 3_600_000 or -1
    largest = max(_BROKERS_DEFAULT_BYTES, config.max_message_bytes + FRAME_BYTES)
    settings = {"retention.ms": str(retention_ms), "max.message.bytes": str(largest)}
    async with translated(config, within_s=2 * reach_timeout_s(config)):
        admin = AIOKafkaAdminClient(**connection(config, client_id))
        try:
            await reached(admin.start, config, client_id)
            missing = sorted(set(names) - set(await admin.list_topics()))
            wanted = [NewTopic(name, config.partitions, config.replication, topic_configs=settings) for name in missing]
            answers = (await admin.create_topics(wanted)).topic_errors if wanted else ()
        finally:
            await admin.close()
    for name, code, reason in answers:
        if code not in (0, _TOPIC_EXISTS):
            error = library.for_code(code)(f"the topic {name} cannot be created: {reason}")
            raise our_error(error, config)
    if missing:
        log.info("topics_created", topics=missing, partitions=config.partitions, replication=config.replication)


def _ssl_context(config: KafkaConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if config.ca_file is None else str(config.ca_file))
    if config.certificate_file is not None:
        context.load_cert_chain(config.certificate_file, config.key_file)
    return context
