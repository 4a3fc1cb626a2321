-- A trade that is stored stays as it is: its candles are made.
WITH given AS (
    SELECT DISTINCT ON (exchange, symbol, time, trade_id) *
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::bigint[], $6::text[], $7::numeric[],
                $8::numeric[], $9::numeric[], $10::text[])
        WITH ORDINALITY AS trade (exchange, symbol, time, trade_id, seq, side, price, quantity, contract_size,
                                  contract_currency, place)
    ORDER BY exchange, symbol, time, trade_id, place
), stored AS (
    INSERT INTO public.trades (exchange, symbol, time, trade_id, seq, side, price, quantity, contract_size,
                               contract_currency, received_at)
    SELECT exchange, symbol, time, trade_id, seq, side, price, quantity, contract_size, contract_currency, now()
    FROM given
    ORDER BY exchange COLLATE "C", symbol COLLATE "C", time, trade_id COLLATE "C"
    ON CONFLICT (exchange, symbol, time, trade_id) DO NOTHING
    RETURNING 1
)
SELECT count(*) AS stored FROM stored
