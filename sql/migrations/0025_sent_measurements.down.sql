DROP TABLE indicator_changes;
ALTER TABLE audit.trade_logs DROP COLUMN seq;
