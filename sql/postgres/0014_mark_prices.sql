-- Without chunks, retention finds old rows by time.
CREATE INDEX mark_prices_time ON mark_prices USING brin (time) WITH (autosummarize = on);
