-- The checks go with their columns.
DROP FUNCTION ingestd_counted_base(text, text);
DROP FUNCTION ingestd_quote_amount(numeric, numeric, numeric, text);
ALTER TABLE symbols DROP COLUMN open_interest_unit;
ALTER TABLE symbols DROP COLUMN quantity_unit;
ALTER TABLE symbols DROP COLUMN contract_size;
ALTER TABLE symbols DROP COLUMN linear;
ALTER TABLE trades DROP COLUMN contract_currency;
ALTER TABLE trades DROP COLUMN contract_size;
