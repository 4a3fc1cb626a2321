-- What submissions say. Of several for one order the earliest counts, whichever arrives first.
UPDATE orders SET
    stated_exchange = said.exchange, stated_symbol = said.symbol, side = said.side, order_type = said.order_type,
    quantity = said.quantity, price = said.price, strategy = said.strategy, client_id = said.client_id,
    submitted_at = said.submitted_at, submission_id = said.submission_id
FROM (
    SELECT DISTINCT ON (order_id) *
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[], $8::text[],
                $9::text[], $10::timestamptz[], $11::uuid[])
         AS row (order_id, exchange, symbol, side, order_type, quantity, price, strategy, client_id, submitted_at,
                 submission_id)
    ORDER BY order_id, submitted_at, submission_id
) AS said
WHERE orders.order_id = said.order_id
  AND (orders.submitted_at IS NULL
       OR (said.submitted_at, said.submission_id) < (orders.submitted_at, orders.submission_id))
