-- What a venue says of a trade that is none of the market's own, and whether the venue's candles count it.
-- No row is written again: NULL and a constant default belong to the table's description, also over compressed chunks.
-- NOT VALID: the rows that are there hold NULL, so none of them is read for the check; new ones are checked.
ALTER TABLE trades ADD COLUMN kind text COLLATE "C";
ALTER TABLE trades ADD COLUMN in_candles boolean NOT NULL DEFAULT true;
ALTER TABLE trades ADD CONSTRAINT trades_kind_check
    CHECK (kind IN ('liquidation', 'insurance_fund', 'adl', 'block', 'rpi', 'settlement', 'other')) NOT VALID;
