ALTER TABLE symbols DROP CONSTRAINT symbols_dash_unique;
ALTER TABLE symbols DROP CONSTRAINT symbols_compact_unique;
ALTER TABLE symbols DROP COLUMN dash;
