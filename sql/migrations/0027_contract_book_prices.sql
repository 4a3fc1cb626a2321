-- Every program writes the best prices by now.
-- There is no constraint: over compressed chunks the server would read all rows while nothing can be stored.
DROP TRIGGER ingestd_book_prices ON order_book;
DROP FUNCTION ingestd_fill_book_prices();
