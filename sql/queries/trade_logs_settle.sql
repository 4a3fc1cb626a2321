-- An event that does not say its side or its exchange has those of its order, as soon as the order is known.
UPDATE audit.trade_logs AS logged SET action = settled.action, exchange = settled.exchange, symbol = settled.symbol
FROM (
    SELECT logged.id,
           CASE WHEN logged.metadata->>'side' IS NULL THEN coalesce('ORDER_' || upper(orders.side), 'ORDER')
                ELSE logged.action END AS action,
           coalesce(place.exchange, 'unknown') AS exchange,
           ingestd_stored_symbol(place.exchange, coalesce(logged.metadata->>'symbol', logged.symbol)) AS symbol
    FROM audit.trade_logs AS logged JOIN orders USING (order_id)
         CROSS JOIN LATERAL (SELECT coalesce(logged.metadata->>'exchange', orders.exchange) AS exchange) AS place
    WHERE order_id = ANY($1::text[])
) AS settled
WHERE logged.id = settled.id
  AND (logged.action, logged.exchange, logged.symbol)
      IS DISTINCT FROM (settled.action, settled.exchange, settled.symbol)
