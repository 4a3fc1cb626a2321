-- What a quantity counts. Of spot and of most linear contracts it is the base currency; other venues count contracts,
-- or the quote currency. No row is written again, and none is read for the checks (see 0008).

-- One of `trades.quantity` is contract_size (NULL: 1) of the currency named; both NULL: one of the base currency.
-- 'unknown': neither the base nor the quote currency, or the venue does not say how much of it.
ALTER TABLE trades ADD COLUMN contract_size numeric;
ALTER TABLE trades ADD COLUMN contract_currency text COLLATE "C";
ALTER TABLE trades ADD CONSTRAINT trades_contract_size_check
    CHECK (contract_size > 0 AND contract_size < 'Infinity') NOT VALID;
ALTER TABLE trades ADD CONSTRAINT trades_contract_currency_check
    CHECK (contract_currency IN ('base', 'quote', 'unknown')) NOT VALID;

-- linear: one contract is contract_size of the base currency; not linear: of the quote currency. NULL: no contract.
ALTER TABLE symbols ADD COLUMN linear boolean;
ALTER TABLE symbols ADD COLUMN contract_size numeric CHECK (contract_size > 0 AND contract_size < 'Infinity');
ALTER TABLE symbols ADD COLUMN quantity_unit text CHECK (quantity_unit IN ('base', 'quote', 'contracts'));
ALTER TABLE symbols ADD COLUMN open_interest_unit text CHECK (open_interest_unit IN ('base', 'quote', 'contracts'));

-- What a trade is worth in the quote currency; NULL: not known.
CREATE FUNCTION ingestd_quote_amount(price numeric, quantity numeric, contract_size numeric, contract_currency text)
RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN contract_currency IS NULL THEN price * quantity
            WHEN contract_currency = 'base' THEN price * quantity * coalesce(contract_size, 1)
            WHEN contract_currency = 'quote' THEN quantity * coalesce(contract_size, 1) END;

-- Whether a trade that says nothing of its unit counts the base currency, at a price in the quote currency. Those of
-- contracts were stored before the unit was: they do only where the venue is known to count the base currency, and the
-- contract is linear, which is settled in what it is quoted in (BTC/USDT:USDT).
CREATE FUNCTION ingestd_counted_base(exchange text, symbol text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN symbol NOT LIKE '%:%'
       OR (exchange IN ('binance', 'binanceusdm', 'bybit') AND symbol ~ '/([^:/]+):\1(-|$)');
