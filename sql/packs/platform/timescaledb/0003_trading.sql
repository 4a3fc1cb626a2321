-- Executed orders stay a plain table: they are found by their id, and a key of a hypertable contains the time.
SELECT create_hypertable('platform.performance_metrics', by_range('time', INTERVAL '30 days'),
                         create_default_indexes => false);
