-- What follows from all that is known: the same whatever came first. An order without an exchange has the one that its
-- executions or endings name first, else the default ($2).
WITH evidence AS (
    SELECT order_id, executed_at AS at, id, stated_exchange, stated_symbol, side
    FROM executions WHERE order_id = ANY($1::text[])
    UNION ALL
    SELECT order_id, ended_at, id, stated_exchange, stated_symbol, side
    FROM order_endings WHERE order_id = ANY($1::text[])
), said AS (
    SELECT order_id,
           (array_agg(stated_symbol ORDER BY at, id) FILTER (WHERE stated_symbol IS NOT NULL))[1] AS symbol,
           (array_agg(stated_exchange ORDER BY at, id) FILTER (WHERE stated_exchange IS NOT NULL))[1] AS exchange,
           (array_agg(side ORDER BY at, id) FILTER (WHERE side IS NOT NULL))[1] AS side
    FROM evidence GROUP BY order_id
), filled AS (
    SELECT order_id, sum(quantity) AS quantity, sum(quantity * price) AS value, max(executed_at) AS last_at
    FROM executions WHERE order_id = ANY($1::text[]) GROUP BY order_id
), ended AS (
    SELECT DISTINCT ON (order_id) order_id, ending, reason, ended_at
    FROM order_endings WHERE order_id = ANY($1::text[])
    ORDER BY order_id, ended_at, id
), known AS (
    SELECT orders.order_id,
           coalesce(orders.stated_exchange, said.exchange, $2::text) AS exchange,
           coalesce(orders.stated_symbol, said.symbol) AS symbol,
           CASE WHEN orders.submitted_at IS NULL THEN said.side ELSE orders.side END AS side,
           filled.quantity, filled.value, filled.last_at, ended.reason, ended.ended_at,
           CASE WHEN filled.quantity >= orders.quantity THEN 'FILLED'
                WHEN ended.ending IS NOT NULL THEN ended.ending
                WHEN filled.quantity IS NULL THEN 'PENDING'
                ELSE 'PARTIALLY_FILLED' END AS status
    FROM orders LEFT JOIN said USING (order_id) LEFT JOIN filled USING (order_id) LEFT JOIN ended USING (order_id)
    WHERE orders.order_id = ANY($1::text[])
)
UPDATE orders SET
    exchange = known.exchange,
    symbol = ingestd_stored_symbol(known.exchange, known.symbol),
    base_asset = known.pair[1],
    quote_asset = known.pair[2],
    side = known.side,
    filled_quantity = coalesce(known.quantity, 0),
    avg_price = known.value / nullif(known.quantity, 0),
    filled_at = CASE known.status WHEN 'FILLED' THEN known.last_at END,
    ended_at = CASE WHEN known.status <> 'FILLED' THEN known.ended_at END,
    error_message = CASE WHEN known.status <> 'FILLED' THEN known.reason END,
    status = known.status
FROM (SELECT *, ingestd_spot_pair(exchange, symbol) AS pair FROM known) AS known
WHERE orders.order_id = known.order_id
RETURNING orders.order_id, orders.exchange, known.symbol, (
        SELECT market.symbol FROM symbols AS market
        WHERE market.exchange = known.exchange COLLATE "C"
          AND (market.symbol = known.symbol COLLATE "C" OR market.compact = known.symbol COLLATE "C"
               OR market.dash = known.symbol COLLATE "C" OR market.venue_name = known.symbol COLLATE "C")
        ORDER BY market.symbol <> known.symbol COLLATE "C", market.compact <> known.symbol COLLATE "C",
                 market.dash <> known.symbol COLLATE "C"
        LIMIT 1
    ) AS market, orders.side, orders.order_type, orders.status,
    orders.quantity::text, orders.price::text, orders.filled_quantity::text, orders.avg_price::text
