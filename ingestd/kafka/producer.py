"""The seam to the Kafka client library for producing: every call is bounded in time, every error becomes ours.

`Producer` sends whole batches to a partition of the caller's choice; `partition_for` chooses as Java's and everybody
else's default partitioner does. `connection` is what any client of the library needs to reach the brokers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeAlias

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka import errors as library
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from ingestd.clock import monotonic_s
from ingestd.config.models import KafkaConfig
from ingestd.errors import ConnectionLost, KafkaError, MessageTooLarge
from ingestd.failpoints import passing
from ingestd.kafka.errors import not_idempotent, our_error, translated, unreached

log = structlog.get_logger()

# timestamp in milliseconds since the epoch, key, value, headers
Message: TypeAlias = tuple[int, bytes, bytes, list[tuple[str, bytes]]]

_STOP_TIMEOUT_S = 3.0
_METADATA_AGAIN_S = 0.1
_TOPIC_EXISTS = 36
# The record's own frame: lengths, offsets and the batch's header, with room to spare.
_FRAME_BYTES = 128
_BROKERS_DEFAULT_BYTES = 1_048_588

_LIMIT_KEPT_S = 300.0


def connection(config: KafkaConfig, client_id: str) -> dict[str, Any]:
    """The arguments with which any client of the library reaches these brokers. The secret files are read now."""
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


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of a key, as Java's default partitioner chooses it."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def size_of(message: Message) -> int:
    """An upper bound of what a message takes in a batch of its own, uncompressed."""
    _, key, value, headers = message
    return _FRAME_BYTES + len(key) + len(value) + sum(len(name) + len(content) + 10 for name, content in headers)


async def reached(start: Callable[[], Awaitable[None]], config: KafkaConfig, client_id: str) -> None:
    """Start a client of the library. Where it says only that no server could be reached, each one's reason is found out
    and raised instead: a refused password must not pass for a broker that is away."""
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
    """Create those of the topics that do not exist, with the configured partitions, replication and retention."""
    retention_ms = config.retention_hours * 3_600_000 or -1
    largest = max(_BROKERS_DEFAULT_BYTES, config.max_message_bytes + _FRAME_BYTES)
    settings = {"retention.ms": str(retention_ms), "max.message.bytes": str(largest)}
    with translated(config):
        async with asyncio.timeout(2 * _reach_timeout_s(config)):
            admin = AIOKafkaAdminClient(**connection(config, client_id))
            try:
                await reached(admin.start, config, client_id)
                missing = set(names) - set(await admin.list_topics())
                wanted = [
                    NewTopic(name, config.partitions, config.replication, topic_configs=settings)
                    for name in names
                    if name in missing
                ]
                answer = await admin.create_topics(wanted) if wanted else None
            finally:
                await admin.close()
    for name, code, reason in answer.topic_errors if answer is not None else ():
        if code not in (0, _TOPIC_EXISTS):
            error = library.for_code(code)(f"the topic {name} cannot be created: {reason}")
            raise our_error(error, config)
    if missing:
        log.info("topics_created", topics=sorted(missing), partitions=config.partitions, replication=config.replication)


class SizeLimits:
    """How large a batch a topic has refused, so that not every message has to be refused anew, at the price of a
    producer each. After five minutes the topic is asked again: its limit may have been raised."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, float]] = {}

    def refused(self, topic: str) -> int | None:
        """The smallest size in bytes that was refused; None when nothing is known."""
        size, at_s = self._refused.get(topic, (0, 0.0))
        return size if size and monotonic_s() - at_s < _LIMIT_KEPT_S else None

    def learn(self, topic: str, size: int) -> None:
        """A batch of this size was refused."""
        known = self.refused(topic)
        if known is None or size < known:
            self._refused[topic] = size, monotonic_s()


class Producer:
    """One producer's life: after an error of `send` it must be terminated, and another one made."""

    def __init__(self, config: KafkaConfig, client_id: str) -> None:
        """`connect` makes one that is ready."""
        self.is_closed = False
        self.limits = SizeLimits()  # to be replaced by what producers before it have learnt
        self._config = config
        self._client_id = client_id
        self._closing: asyncio.Task[None] | None = None
        self._producer = AIOKafkaProducer(
            **connection(config, client_id),
            acks="all",
            enable_idempotence=config.idempotent,
            compression_type=None if config.compression == "none" else config.compression,
            max_batch_size=config.max_batch_bytes,
            metadata_max_age_ms=60_000,
        )

    @classmethod
    async def connect(cls, config: KafkaConfig, client_id: str, topics: Sequence[str]) -> Self:
        """A producer that has reached a broker, to topics that exist. Raises KafkaError or ConnectionLost."""
        connecting = asyncio.create_task(cls._connected(config, client_id, topics), name="kafka-producer-connect")
        _in_background(connecting)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # Cut off in the middle, the library leaves its sockets open: it comes to its end, and is ended then.
            connecting.add_done_callback(_discard)
            raise

    @classmethod
    async def _connected(cls, config: KafkaConfig, client_id: str, topics: Sequence[str]) -> Self:
        if config.create_topics:
            await ensure_topics(config, client_id, topics)
        producer = cls(config, client_id)
        try:
            await producer.reach()
            await producer.begin()
        except BaseException:
            producer.terminate()
            raise
        return producer

    async def reach(self) -> None:
        """The first of two steps to a producer that is ready: find a broker."""
        with translated(self._config):
            async with asyncio.timeout(_reach_timeout_s(self._config)):
                await reached(self._producer.client.bootstrap, self._config, self._client_id)

    async def begin(self) -> None:
        """The second: an idempotent producer gets its producer id. Raises NotIdempotent when the broker refuses."""
        try:
            with translated(self._config):
                async with asyncio.timeout(self._config.request_timeout_s + 1):
                    await self._producer._sender.start()
        except (KafkaError, ConnectionLost) as error:
            if self._config.idempotent:
                raise not_idempotent(error, self._config) from error
            raise

    async def known(self) -> tuple[list[str], set[str]]:
        """The brokers of the cluster (`host:port`, as they name themselves) and its topics."""
        with translated(self._config):
            async with asyncio.timeout(self._config.request_timeout_s):
                cluster = await self._producer.client.fetch_all_metadata()
        return sorted(f"{broker.host}:{broker.port}" for broker in cluster.brokers()), set(cluster.topics())

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises KafkaError for one that does not exist; one that this program has
        just made may take a moment to be known."""
        client, answered = self._producer.client, False
        with translated(self._config, f"the topic {topic}"):
            try:
                async with asyncio.timeout(self._config.request_timeout_s):
                    while (known := client.cluster.partitions_for_topic(topic)) is None:
                        if answered and not self._config.create_topics:
                            raise library.UnknownTopicOrPartitionError
                        if answered:
                            await asyncio.sleep(_METADATA_AGAIN_S)
                        client.add_topic(topic)
                        answered = bool(await client.force_metadata_update())
                        if topic in client.cluster.unauthorized_topics:
                            raise library.TopicAuthorizationFailedError(topic)
            except TimeoutError as error:
                if answered:
                    raise library.UnknownTopicOrPartitionError from error
                raise
        return len(known)

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> int:
        """Send as many of the messages as one batch takes, at least one; return how many, once all replicas in sync
        have them.

        Raises MessageTooLarge when the broker refuses the batch, or has refused one of its size before (then none of
        it is stored), ConnectionLost when nobody answered within `delivery_timeout_s` (then nobody knows), another
        KafkaError for what else it answers.
        """
        refused = self.limits.refused(topic)
        count = 0
        try:
            with translated(self._config, f"the topic {topic}"):
                batch = self._producer.create_batch()
                count = fill(batch, messages if refused is None else below(messages, refused, batch.size))
                batch.close()
                if refused is not None and batch.size() >= refused:
                    text = f"the topic {topic} takes no batch of {batch.size()} bytes"
                    raise MessageTooLarge(text, name="MessageSizeTooLargeError", retriable=False, foreseen=True)
                passing("kafka.send")
                async with asyncio.timeout(self._config.delivery_timeout_s):
                    await (await self._producer.send_batch(batch, topic, partition=partition))
                passing("kafka.acknowledged")
        except MessageTooLarge as error:
            error.messages = count
            if not error.foreseen:
                self.limits.learn(topic, batch.size())
            raise
        return count

    async def close(self) -> None:
        """Terminate it, and wait a few seconds at most for its connections to close. Never raises."""
        self.terminate()
        await settled(2 * _STOP_TIMEOUT_S)

    def terminate(self) -> None:
        """Cut the connections now: what is under way may or may not arrive."""
        if self._closing is None:
            self.is_closed = True
            self._closing = asyncio.create_task(self._cut(), name="kafka-producer-close")
            _in_background(self._closing)

    async def _cut(self) -> None:
        # The library's stop() first waits for every pending batch, which an idempotent producer retries for ever: so
        # its parts are stopped here one by one, the connections first, which fails what waits for an answer, and once
        # more, since what was being dialled meanwhile is a connection too.
        self._producer._closed = True
        sending = self._producer._sender.sender_task
        if sending is not None:
            sending.cancel()
        await self._hang_up()
        if sending is not None:
            await asyncio.wait({sending}, timeout=_STOP_TIMEOUT_S)
            if sending.done() and not sending.cancelled():
                sending.exception()
            await self._hang_up()

    async def _hang_up(self) -> None:
        with contextlib.suppress(Exception):  # it is being thrown away
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._producer.client.close()


def fill(batch: BatchBuilder, messages: Iterable[Message]) -> int:
    """Append until one does not fit; how many did."""
    # What `batch.append` does, without its call, its four keywords and its serializers for every message.
    append, count = batch._builder.append, 0
    for timestamp_ms, key, value, headers in messages:
        if append(count, timestamp_ms, key, value, headers) is None:
            break
        count += 1
    batch._relative_offset = count
    return count


def below(messages: Iterable[Message], refused: int, size: Callable[[], int]) -> Iterator[Message]:
    """The messages that keep a batch below the size that was refused, the first in any case."""
    for index, message in enumerate(messages):
        if index and size() + size_of(message) >= refused:
            return
        yield message


_background: set[asyncio.Task[Any]] = set()  # what still begins or ends by itself: a task needs an owner


def _in_background(task: asyncio.Task[Any]) -> None:
    _background.add(task)
    task.add_done_callback(_background.discard)


def _discard(connecting: asyncio.Task[Any]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()


async def settled(timeout_s: float) -> None:
    """Until every producer that was terminated has closed its connections, at most so long."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while ours := {task for task in _background if task.get_loop() is loop}:
                await asyncio.wait(ours)


def _reach_timeout_s(config: KafkaConfig) -> float:
    """How long it may take to try every bootstrap server; the library bounds each attempt itself."""
    return config.request_timeout_s * len(config.bootstrap_servers) + 1


def _ssl_context(config: KafkaConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if config.ca_file is None else str(config.ca_file))
    if config.certificate_file is not None:
        context.load_cert_chain(config.certificate_file, config.key_file)
    return context
