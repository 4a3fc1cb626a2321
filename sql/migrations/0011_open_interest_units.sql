-- A venue may say how many contracts are open, or what they are worth (Bybit's inverse ones, Deribit's perpetuals in
-- USD): either is enough. `unit` is what the venue counts in; NULL: it does not say. No row is written again.
ALTER TABLE oi_snapshots ALTER COLUMN open_interest DROP NOT NULL;
ALTER TABLE oi_snapshots ADD COLUMN unit text COLLATE "C";
-- NOT VALID: the rows that are there have an open_interest and no unit, so none of them is read for the checks.
ALTER TABLE oi_snapshots ADD CONSTRAINT oi_snapshots_unit_check
    CHECK (unit IN ('contracts', 'base', 'quote')) NOT VALID;
ALTER TABLE oi_snapshots ADD CONSTRAINT oi_snapshots_either_check
    CHECK (open_interest IS NOT NULL OR open_interest_usd IS NOT NULL) NOT VALID;
