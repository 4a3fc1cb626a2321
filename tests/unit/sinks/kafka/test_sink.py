"""The Kafka sink's parts without a broker: partitions, chains, sizes, what the client is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from ingestd.channels import count_channels
from ingestd.config.loading import parse
from ingestd.config.models import KafkaConfig
from ingestd.errors import ConfigError, ConnectionLost, MessageTooLarge
from ingestd.journal.journal import Batch
from ingestd.kafka import envelope, producer
from ingestd.kafka.connecting import connection
from ingestd.kafka.producer import Message, partition_for, size_of
from ingestd.records import Record, Rejected
from ingestd.sinks.kafka.flush import TOO_LARGE, Flush, Preparer
from ingestd.venues.market_names import Names
from tests.support.records import book, tick, trade
from tests.support.topics import headers_of

# Of Java's Utils.murmur2, from Apache Kafka's own UtilsTest.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), MURMUR2.items())
def test_partitions_are_java_s(key: bytes, hashed: int) -> None:
    for partitions in (1, 3, 6, 50, 1000):
        assert partition_for(key, partitions) == (hashed & 0x7FFFFFFF) % partitions


def batch_of(records: list[Record], position: int = 1, journal_id: str = "ab") -> Batch:
    return Batch(journal_id, position, 0, count_channels(records), records, 0, 1)


def preparer(*, keep_rejected: bool = False, limit: int = 5000) -> Preparer:
    return Preparer("p", limit, Names(), keep_rejected=keep_rejected)


def prepared(records: list[Record], partitions: int = 3, *, keep_rejected: bool = False) -> Flush:
    made = preparer(keep_rejected=keep_rejected)
    return made.prepare([batch_of(records)], dict.fromkeys(made.topics, partitions))


class Broker:
    """Takes at most so many messages a batch, and refuses those with certain keys as too large."""

    def __init__(self, at_most: int = 10, refused: tuple[bytes, ...] = ()) -> None:
        self.at_most = at_most
        self.refused = refused
        self.got: dict[tuple[str, int], list[Message]] = {}
        self.under_way: dict[tuple[str, int], int] = {}
        self.failures: list[Exception] = []

    async def send(self, topic: str, partition: int, messages: Sequence[Message]) -> int:
        place = topic, partition
        assert self.under_way.get(place, 0) == 0, "one batch a partition at a time"
        self.under_way[place] = 1
        await asyncio.sleep(0)
        self.under_way[place] = 0
        if self.failures:
            raise self.failures.pop()
        batch = list(messages[: self.at_most])
        if any(key in self.refused for _, key, _, _ in batch):
            raise MessageTooLarge("no", name="MessageSizeTooLargeError", retriable=False)
        self.got.setdefault(place, []).extend(batch)
        return len(batch)


async def delivered(flush: Flush, broker: Broker) -> None:
    while too_large := await flush.send(broker):
        for chain in too_large:
            flush.shrink(chain)


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 20), st.sets(st.integers(0, 5), max_size=3))
def test_chains_deliver_in_order_and_put_aside_what_is_refused(
    symbols: list[int], at_most: int, refused: set[int]
) -> None:
    records: list[Record] = [trade(number, symbol=f"S{symbol}") for number, symbol in enumerate(symbols)]
    flush = prepared(records)
    broker = Broker(at_most, tuple(f"binance:S{symbol}".encode() for symbol in refused))
    asyncio.run(delivered(flush, broker))
    good = [record for record, symbol in zip(records, symbols, strict=True) if symbol not in refused]
    by_place: dict[tuple[str, int], list[bytes]] = {}
    for record in good:
        by_place.setdefault(("p.market.trades", partition_for(envelope.key(record), 3)), []).append(
            envelope.encode(record)
        )
    assert {place: [message[2] for message in messages] for place, messages in broker.got.items()} == by_place
    assert flush.rejected.total() == len(records) - len(good)


async def test_a_failed_flush_goes_on_where_its_acknowledgements_ended() -> None:
    records: list[Record] = [trade(number, symbol=f"S{number % 4}") for number in range(80)]
    flush, broker = prepared(records), Broker(5)
    broker.failures = [ConnectionLost("gone")]
    with pytest.raises(ConnectionLost):
        await flush.send(broker)
    assert broker.got, "the other partitions went on"
    await delivered(flush, broker)
    values = sorted(message[2] for messages in broker.got.values() for message in messages)
    assert values == sorted(envelope.encode(record) for record in records)


async def test_positions_count_through_the_batch_and_all_topics() -> None:
    flush = prepared([trade(1), tick(2), trade(3)], partitions=1)
    positions = {
        chain.topic: [dict(headers)["ingestd-position"] for _, _, _, headers in chain.messages]
        for chain in flush.chains
    }
    assert positions == {"p.market.trades": [b"ab:1:0", b"ab:1:2"], "p.market.ticks": [b"ab:1:1"]}


@pytest.mark.parametrize("keep_rejected", [False, True])
def test_a_message_over_the_limit_is_not_sent(keep_rejected: bool) -> None:
    large = book(1, bids=tuple((str(number), "1") for number in range(1000)))
    flush = prepared([trade(1), large], keep_rejected=keep_rejected)
    assert flush.rejected == {("order_book", TOO_LARGE): 1}
    topics = {chain.topic for chain in flush.chains}
    assert topics == {"p.market.trades"} | ({"p.market.rejected"} if keep_rejected else set())
    if keep_rejected:
        (value,) = [chain.messages[0][2] for chain in flush.chains if chain.topic == "p.market.rejected"]
        assert envelope.decode("rejected", value) == Rejected(
            "binance", "BTC/USDT", large.time, large.received_at, "order_book", "kafka_too_large", "{}"
        )


def test_the_size_is_an_upper_bound_of_the_bytes_sent() -> None:
    value = envelope.encode(trade(1))
    headers = headers_of("ab", 1, 2)
    message: Message = (1, b"k", value, headers)
    assert size_of(message) > len(value) + 1 + sum(len(name) + len(content) for name, content in headers)


async def test_what_the_client_is_told_of_security(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter22\n")
    plain = connection(KafkaConfig(), "me")
    assert (plain["security_protocol"], plain["ssl_context"]) == ("PLAINTEXT", None)
    sasl = {"sasl_mechanism": "SCRAM-SHA-512", "username": "u", "password_file": "secret"}
    for tls, protocol in ((False, "SASL_PLAINTEXT"), (True, "SASL_SSL")):
        config = parse({"kafka": {**sasl, "tls": tls}}, {}, base=tmp_path).kafka
        assert config is not None
        told = connection(config, "me")
        assert told["security_protocol"] == protocol
        assert (told["sasl_plain_username"], told["sasl_plain_password"]) == ("u", "hunter22")
        assert (told["ssl_context"] is not None) is tls
    assert connection(KafkaConfig(tls=True), "me")["security_protocol"] == "SSL"


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"sasl_mechanism": "PLAIN"}, "needs username"),
        ({"username": "u"}, "need sasl_mechanism"),
        ({"ca_file": "x"}, "tls = true"),
        ({"tls": True, "certificate_file": "x"}, "go together"),
        ({"sasl_mechanism": "GSSAPI"}, "must be one of"),
        ({"topic_prefix": "a b"}, "must be of letters, digits, dots, dashes and underscores"),
        ({"compresion": "lz4"}, 'did you mean "compression"?'),
    ],
)
def test_half_of_a_credential_is_a_mistake(section: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match="kafka") as caught:
        parse({"kafka": section}, {})
    assert says in str(caught.value)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 2**50), st.binary(min_size=1, max_size=20), st.binary(max_size=300),
            st.just([("ingestd-position", b"ab:1:0"), ("ingestd-version", b"1")]),
        ),
        min_size=1, max_size=40,
    ),
    st.integers(200, 4000),
)  # fmt: skip
def test_a_batch_is_the_one_the_library_builds_itself(messages: list[Message], batch_bytes: int) -> None:
    """`fill` uses what the library keeps to itself: an update that changes it must fail here, not in a topic."""
    ours, theirs = BatchBuilder(batch_bytes, 0), BatchBuilder(batch_bytes, 0)
    taken = 0
    for timestamp_ms, key, value, headers in messages:
        if theirs.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            break
        taken += 1
    assert producer.fill(ours, messages) == taken
    assert ours.record_count() == theirs.record_count() == taken
    assert bytes(ours._build()) == bytes(theirs._build())


def test_a_batch_stays_below_the_size_that_was_refused() -> None:
    message: Message = 1, b"k", b"v" * 100, []
    for refused in (1, 500, 1000):
        batch = BatchBuilder(100_000, 0)
        count = producer.fill(batch, producer.below([message] * 20, refused, batch.size))
        assert count == 1 or batch.size() < refused
        assert count == 1 or batch.size() + 2 * size_of(message) >= refused, "no smaller than it need be"
