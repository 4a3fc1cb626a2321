-- A balance that has become negative is a row of system_events: an event is missing, or money that no event told of.
WITH changed AS (
    UPDATE balances SET is_negative = NOT is_negative
    WHERE is_negative <> (available < 0 OR locked < 0)
    RETURNING exchange, asset, available, locked, snapshot_at, is_negative
)
INSERT INTO audit.system_events (id, timestamp, event_type, severity, component, message, metadata)
SELECT gen_random_uuid(), now(), 'BALANCE_NEGATIVE', 'WARNING', 'balances',
       format('The balance of %s on %s is negative: %s available, %s locked', asset, exchange, available, locked),
       jsonb_build_object('exchange', exchange, 'asset', asset, 'available', available, 'locked', locked,
                          'snapshot_at', snapshot_at)
FROM changed WHERE is_negative
