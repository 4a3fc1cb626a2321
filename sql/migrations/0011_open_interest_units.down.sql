-- What has only a value cannot be kept by the table as it was.
ALTER TABLE oi_snapshots DROP CONSTRAINT oi_snapshots_either_check;
ALTER TABLE oi_snapshots DROP COLUMN unit;
DELETE FROM oi_snapshots WHERE open_interest IS NULL;
ALTER TABLE oi_snapshots ALTER COLUMN open_interest SET NOT NULL;
