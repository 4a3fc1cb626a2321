DROP TABLE platform.system_logs, platform.system_settings, platform.exchange_connections, platform.risk_events,
    platform.risk_limits, platform.strategy_versions, platform.strategies, platform.api_keys, platform.refresh_tokens,
    platform.user_sessions, platform.users;
