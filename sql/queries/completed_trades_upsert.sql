-- Of several reports of one trade the earliest counts, whichever arrives first.
INSERT INTO completed_trades AS stored
    (trade_id, exchange, symbol, side, quantity, entry_price, exit_price, pnl, strategy, completed_at, event_id)
SELECT DISTINCT ON (trade_id) trade_id, exchange, ingestd_stored_symbol(exchange, symbol), side, quantity, entry_price,
       exit_price, pnl, strategy, completed_at, event_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::numeric[], $8::numeric[],
            $9::text[], $10::timestamptz[], $11::uuid[])
     AS row (trade_id, exchange, symbol, side, quantity, entry_price, exit_price, pnl, strategy, completed_at, event_id)
ORDER BY trade_id, completed_at, event_id
ON CONFLICT (trade_id) DO UPDATE SET
    exchange = EXCLUDED.exchange, symbol = EXCLUDED.symbol, side = EXCLUDED.side, quantity = EXCLUDED.quantity,
    entry_price = EXCLUDED.entry_price, exit_price = EXCLUDED.exit_price, pnl = EXCLUDED.pnl,
    strategy = EXCLUDED.strategy, completed_at = EXCLUDED.completed_at, event_id = EXCLUDED.event_id
WHERE (EXCLUDED.completed_at, EXCLUDED.event_id) < (stored.completed_at, stored.event_id)
