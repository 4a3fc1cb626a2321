"""The retention that `ingestd migrate` has set, after it asked: the daemon itself deletes by none that is shorter."""

from __future__ import annotations

import json
from collections.abc import Mapping

import structlog

from ingestd.config.models import Config
from ingestd.storage.candles import FOR_EVER
from ingestd.storage.database import Database

log = structlog.get_logger(__name__)
_SETTING = "retention"


async def record(db: Database, config: Config) -> None:
    """Record that rows may be deleted by this configuration."""
    await db.execute(
        "INSERT INTO ingestd_settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2",
        _SETTING,
        json.dumps(config.retention.model_dump()),
    )


async def kept(db: Database, config: Config) -> Config:
    """The configuration by which rows may be deleted: each retention that is shorter than the recorded one is as long.

    Logs those. What is not recorded counts as the configuration says: an older program recorded nothing.
    """
    recorded = await db.fetchval("SELECT value FROM ingestd_settings WHERE name = $1", _SETTING)
    agreed: Mapping[str, int] = {} if recorded is None else json.loads(recorded)
    configured: dict[str, int] = config.retention.model_dump()
    longer = {
        option: agreed[option]
        for option, days in configured.items()
        if option in agreed and days != FOR_EVER and (agreed[option] == FOR_EVER or agreed[option] > days)
    }
    if longer:
        advice = (
            "nothing is deleted by them until `ingestd migrate -c FILE` has set them; it says how many rows would go"
        )
        told = {option: f"{configured[option]} days, not {days or 'for ever'}" for option, days in longer.items()}
        log.warning("retention_is_not_agreed", shorter=told, advice=advice)
    return config.model_copy(update={"retention": config.retention.model_copy(update=longer)})
