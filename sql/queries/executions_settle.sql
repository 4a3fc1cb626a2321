-- An execution that names no exchange has that of its order.
UPDATE executions SET exchange = settled.exchange, symbol = settled.symbol, base_asset = settled.pair[1],
                      quote_asset = settled.pair[2]
FROM (
    SELECT executions.id, place.exchange, ingestd_stored_symbol(place.exchange, executions.stated_symbol) AS symbol,
           ingestd_spot_pair(place.exchange, executions.stated_symbol) AS pair
    FROM executions JOIN orders USING (order_id)
         CROSS JOIN LATERAL (SELECT coalesce(executions.stated_exchange, orders.exchange) AS exchange) AS place
    WHERE order_id = ANY($1::text[])
) AS settled
WHERE executions.id = settled.id
  AND (executions.exchange, executions.symbol, executions.base_asset, executions.quote_asset)
      IS DISTINCT FROM (settled.exchange, settled.symbol, settled.pair[1], settled.pair[2])
