-- What follows from all that is known: the same whatever came first. More facts only move the status forward.
UPDATE orders SET
    symbol = coalesce(CASE WHEN submitted_at IS NOT NULL THEN orders.symbol END, filled.symbol),
    exchange = coalesce(CASE WHEN submitted_at IS NOT NULL THEN orders.exchange END, filled.exchange),
    side = coalesce(CASE WHEN submitted_at IS NOT NULL THEN orders.side END, filled.side),
    filled_quantity = coalesce(filled.quantity, 0),
    avg_price = filled.value / nullif(filled.quantity, 0),
    filled_at = CASE WHEN filled.quantity >= orders.quantity THEN filled.last_at END,
    status = CASE WHEN filled.quantity IS NULL THEN 'PENDING'
                  WHEN filled.quantity >= orders.quantity THEN 'FILLED'
                  ELSE 'PARTIALLY_FILLED' END
FROM (
    SELECT touched.order_id,
           sum(quantity) AS quantity,
           sum(quantity * price) AS value,
           max(executed_at) AS last_at,
           (array_agg(symbol ORDER BY executed_at, id) FILTER (WHERE symbol IS NOT NULL))[1] AS symbol,
           (array_agg(exchange ORDER BY executed_at, id) FILTER (WHERE exchange IS NOT NULL))[1] AS exchange,
           (array_agg(side ORDER BY executed_at, id) FILTER (WHERE side IS NOT NULL))[1] AS side
    FROM unnest($1::text[]) AS touched (order_id) LEFT JOIN executions USING (order_id)
    GROUP BY touched.order_id
) AS filled
WHERE orders.order_id = filled.order_id
RETURNING orders.order_id, orders.symbol, orders.side, orders.order_type, orders.status,
    orders.quantity::text, orders.price::text, orders.filled_quantity::text, orders.avg_price::text
