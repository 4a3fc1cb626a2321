-- A short name belongs to one market of its venue, and follows from that market alone. Those of before followed from
-- what the venue listed at the time, and two contracts could share one: each gives way to the unified symbol, which no
-- two share, until the daemon lists the venue's markets again (at its start).
ALTER TABLE symbols ADD COLUMN dash text COLLATE "C";
UPDATE symbols SET compact = symbol, dash = symbol;
-- Judged when a statement ends: markets may exchange their names in one.
ALTER TABLE symbols ADD CONSTRAINT symbols_compact_unique UNIQUE (exchange, compact) DEFERRABLE INITIALLY IMMEDIATE;
ALTER TABLE symbols ADD CONSTRAINT symbols_dash_unique UNIQUE (exchange, dash) DEFERRABLE INITIALLY IMMEDIATE;
