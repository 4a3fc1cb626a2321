-- An execution that does not say its side has that of its order, as soon as the order is known.
UPDATE audit.trade_logs AS logged SET action = upper(orders.side)
FROM orders
WHERE orders.order_id = ANY($1::text[]) AND orders.order_id = logged.order_id AND orders.side IS NOT NULL
  AND NOT logged.metadata ? 'side' AND logged.action <> upper(orders.side)
