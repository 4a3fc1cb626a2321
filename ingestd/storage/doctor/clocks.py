"""The server's clock against ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingestd.config.models import Config
from ingestd.storage.database import Database
from ingestd.storage.doctor.findings import Finding, age

_TOLERATED = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The server's clock, and ours just before it was asked and just after."""

    asked: datetime
    server: datetime
    answered: datetime


async def read(db: Database) -> ClockFacts:
    asked = datetime.now(UTC)
    server = await db.fetchval("SELECT clock_timestamp()")
    return ClockFacts(asked, server, datetime.now(UTC))


def judge(facts: ClockFacts, config: Config) -> Iterator[Finding]:
    """Compare them. What the way of the answer may explain is no difference."""
    ahead, behind = facts.server - facts.answered, facts.asked - facts.server
    apart = max(ahead, behind)
    if apart <= _TOLERATED:
        return
    word = "ahead of" if ahead > behind else "behind"
    message = (
        f"the server's clock is at least {age(apart)} {word} this machine's: retention, refresh windows and leases go "
        "by the server's, what is accepted by this one's"
    )
    is_wrong = apart > timedelta(seconds=config.validation.max_ahead_s)
    remedy = "timedatectl set-ntp true   # on the machine whose clock is wrong; chronyc makestep sets it at once"
    yield Finding("error" if is_wrong else "warning", "clock", message, remedy)
