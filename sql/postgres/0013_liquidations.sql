-- Without chunks, retention finds old rows by time.
CREATE INDEX liquidations_time ON liquidations USING brin (time) WITH (autosummarize = on);
