-- Every order that the events speak of gets a row, and this transaction its lock: in one order, so that two cannot wait
-- for each other.
INSERT INTO orders (order_id, status)
SELECT order_id, 'PENDING' FROM unnest($1::text[]) AS touched (order_id) ORDER BY order_id
ON CONFLICT (order_id) DO UPDATE SET updated_at = now()
