"""Turns errors of the Kafka client library into ours, and names the brokers in each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import errors as library

from ingestd.config.models import KafkaConfig
from ingestd.errors import AccessRefused, ConnectionLost, KafkaError, MessageTooLarge, NotIdempotent, ProducerFenced

_FENCED = (
    library.ProducerFenced,
    library.OutOfOrderSequenceNumber,
    library.InvalidProducerEpoch,
    library.UnknownProducerId,
    library.InvalidProducerIdMapping,
    library.ProducerClosed,
)
_REFUSED = (
    library.TopicAuthorizationFailedError,
    library.GroupAuthorizationFailedError,
    library.ClusterAuthorizationFailedError,
    library.AuthenticationFailedError,
    library.AuthenticationMethodNotSupported,
    library.SaslAuthenticationFailed,
    library.UnsupportedSaslMechanismError,
)
_NO_ANSWER = (
    library.KafkaConnectionError,
    library.KafkaTimeoutError,
    library.KafkaUnavailableError,
    library.NoBrokersAvailable,
    library.NodeNotReadyError,
    library.RequestTimedOutError,
)
_TOO_LARGE = (library.MessageSizeTooLargeError, library.RecordListTooLargeError)

_BROKERS_NAMED = 3


@asynccontextmanager
async def translated(config: KafkaConfig, what: str = "", *, within_s: float | None = None) -> AsyncIterator[None]:
    """Raise the library's errors as ours, ConnectionLost after `within_s`. `what` names the operation or topic."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except library.KafkaError as error:
        raise our_error(error, config, what) from error
    except (OSError, TimeoutError) as error:
        raise ConnectionLost(f"{place(config, what)}: no broker answers ({unreached(error)})") from error
    except (AssertionError, ValueError, library.IllegalOperation) as error:
        # The library uses assertions for its assumptions about the cluster, such as that a partition exists.
        name = type(error).__name__
        raise KafkaError(f"{place(config, what)}: {error}", name=name, retriable=False) from error


def our_error(error: library.KafkaError, config: KafkaConfig, what: str = "") -> KafkaError | ConnectionLost:
    """Our error for an error of the library."""
    name, where = type(error).__name__, place(config, what)
    text = f"{where}: {str(error) or name}"
    if isinstance(error, _NO_ANSWER):
        return ConnectionLost(f"{where}: no broker answers ({error.args[0] if error.args else name})")
    if isinstance(error, _TOO_LARGE):
        return MessageTooLarge(f"{text}; raise max.message.bytes of the topic", name=name, retriable=False)
    if isinstance(error, _FENCED):
        return ProducerFenced(f"{text}; a new producer takes over", name=name, retriable=True)
    if isinstance(error, _REFUSED):
        return AccessRefused(f"{text}; check kafka.username and the rights it has", name=name, retriable=False)
    if isinstance(error, library.UnknownTopicOrPartitionError):
        what = what or "a topic"
        text = f"{place(config)}: {what} does not exist; create it, or set kafka.create_topics"
    return KafkaError(text, name=name, retriable=bool(error.retriable))


def not_idempotent(error: KafkaError | ConnectionLost, config: KafkaConfig) -> KafkaError | ConnectionLost:
    """The error for a broker that gave an idempotent producer no producer id."""
    remedy = "if it has no idempotent producers, set kafka.idempotent = false"
    if isinstance(error, ConnectionLost):
        return ConnectionLost(f"{place(config)}: the broker assigned no producer id in time; {remedy}")
    if error.name == library.ClusterAuthorizationFailedError.__name__:
        remedy = "grant IDEMPOTENT_WRITE on the cluster, or set kafka.idempotent = false"
    elif isinstance(error, AccessRefused) or error.retriable:
        return error
    text = f"{place(config)}: the broker refuses an idempotent producer ({error.name}); {remedy}"
    return NotIdempotent(text, name=error.name, retriable=False)


def unreached(error: BaseException) -> str:
    """The reason why a broker could not be reached, in a few words."""
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(error, socket.gaierror):
        return "is not a name that can be resolved"
    if isinstance(error, TimeoutError):
        return "gave no answer in time"
    return str(error) or type(error).__name__


def place(config: KafkaConfig, what: str = "") -> str:
    """`Kafka at host:9092: the topic x`. Text before an @ is omitted: it might be a password."""
    names = [server.rpartition("@")[2] for server in config.bootstrap_servers]
    more = len(names) - _BROKERS_NAMED
    where = ", ".join(names[:_BROKERS_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"Kafka at {where}: {what}" if what else f"Kafka at {where}"
