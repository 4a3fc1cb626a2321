-- An execution that names no exchange has that of its order.
UPDATE executions SET exchange = settled.exchange, symbol = settled.symbol
FROM (
    SELECT executions.id, place.exchange, ingestd_stored_symbol(place.exchange, executions.stated_symbol) AS symbol
    FROM executions JOIN orders USING (order_id)
         CROSS JOIN LATERAL (SELECT coalesce(executions.stated_exchange, orders.exchange) AS exchange) AS place
    WHERE order_id = ANY($1::text[])
) AS settled
WHERE executions.id = settled.id
  AND (executions.exchange, executions.symbol) IS DISTINCT FROM (settled.exchange, settled.symbol)
