"""For the platform's own programs: sessions, strategies, limits and credentials in the tables of the pack platform.

    from ingestd.applications import Cache, find_session
    from ingestd.repository import aio

    async with Cache.at("redis://localhost:6379/0") as cache:
        db = await aio.connect()  # the database of DATABASE_URL; one for each task
        session = await find_session(cache, db, token)

The tables are the truth; Redis holds copies for a time. Without Redis every answer is the same, and comes later.

In: tokens, ids and credentials, on a connection of the caller.
Out: rows of the schema `platform`, and keys of Redis that docs/applications.md lists.
"""

from ingestd.applications.cache import Cache
from ingestd.applications.connections import (
    Connection,
    Credentials,
    Listed,
    Rotated,
    connections_of,
    list_connections,
    put_connection,
    read_connection,
    remove_connection,
    replace_credentials,
    rotate,
)
from ingestd.applications.keys import Key, Keys, keys_of, read_key, write_new_key
from ingestd.applications.rates import Metric, Rate, count_request, find_metric, put_metric, rate_limit_key
from ingestd.applications.sessions import (
    RefreshToken,
    Session,
    end_session,
    end_sessions_of,
    find_refresh_token,
    find_session,
    new_token,
    open_session,
    refresh_token_key,
    revoke_refresh_token,
    session_key,
    store_refresh_token,
    token_hash,
    touch_session,
)
from ingestd.applications.strategies import (
    ACTIVE_KEY,
    RiskLimits,
    Strategy,
    active_strategies,
    change_strategy,
    find_risk_limits,
    find_strategy,
    risk_limits_key,
    set_risk_limits,
    strategy_key,
)

__all__ = [
    "ACTIVE_KEY",
    "Cache",
    "Connection",
    "Credentials",
    "Key",
    "Keys",
    "Listed",
    "Metric",
    "Rate",
    "RefreshToken",
    "RiskLimits",
    "Rotated",
    "Session",
    "Strategy",
    "active_strategies",
    "change_strategy",
    "connections_of",
    "count_request",
    "end_session",
    "end_sessions_of",
    "find_metric",
    "find_refresh_token",
    "find_risk_limits",
    "find_session",
    "find_strategy",
    "keys_of",
    "list_connections",
    "new_token",
    "open_session",
    "put_connection",
    "put_metric",
    "rate_limit_key",
    "read_connection",
    "read_key",
    "refresh_token_key",
    "remove_connection",
    "replace_credentials",
    "revoke_refresh_token",
    "risk_limits_key",
    "rotate",
    "session_key",
    "set_risk_limits",
    "store_refresh_token",
    "strategy_key",
    "token_hash",
    "touch_session",
    "write_new_key",
]
