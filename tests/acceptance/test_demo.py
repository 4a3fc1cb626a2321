"""`ingestd demo`, as a newcomer runs it: every destination has what the venue sent, and a lie would be noticed."""

from __future__ import annotations

import json
from collections import Counter

from ingestd.lab.demo import verdict as demo_verdict
from ingestd.lab.demo.fanout import Arrivals, Fanout, ShownTrade, Subscriber
from ingestd.lab.demo.run import Account
from tests.support.daemon import ingestd


async def test_every_destination_has_what_the_venue_sent() -> None:
    code, out, err = await ingestd("demo", "--seconds", "2", "--symbols", "3", "--json", timeout_s=90)
    assert code == 0, out + err
    result = json.loads(out.splitlines()[-1])
    assert result["verdict"] == "ok"
    assert result["failed_checks"] == []
    sent = result["sent"]["trades"]
    assert sent > 100
    arrived = [result["rows"]["trades"], result["redis_messages"]["trades"], result["kafka_messages"]["trades"]]
    assert arrived == [sent] * 3
    assert result["kafka_messages"]["ticks"] == result["sent"]["ticks"]
    assert 0 < result["redis_messages"]["ticks"] < result["sent"]["ticks"]  # of the primary exchange
    assert result["redis_keys"] > 6


def test_a_message_lost_doubled_or_altered_fails_the_verdict() -> None:
    ledger = [{"trade_id": str(number), "price": "1.50", "quantity": "2", "side": "buy"} for number in range(3)]
    honest = Counter[ShownTrade]({(str(number), "1.50", "2", "buy"): 1 for number in range(3)})
    one = Counter[ShownTrade]({("1", "1.50", "2", "buy"): 1})

    def verdict(redis: Counter[ShownTrade], kafka: Counter[ShownTrade]) -> bool:
        fanout = Fanout("", {}, Subscriber(0))
        fanout.redis = Arrivals(Counter(trades=redis.total()), redis)
        fanout.topics = Arrivals(Counter(trades=kafka.total()), kafka)
        account = Account(ledger_trades=ledger, live={"trades": 3}, fanout=fanout)
        account.counts = {"sinks": {"kafka": {"stored": {"trades": 3}}}}
        return all(check.holds for check in demo_verdict.fanout_checks(account))

    assert verdict(honest, honest)
    for wrong in (honest - one, honest + one, honest - one + Counter[ShownTrade]({("1", "1.5", "2", "buy"): 1})):
        assert not verdict(wrong, honest)
        assert not verdict(honest, wrong)
