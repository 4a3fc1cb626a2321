-- Without chunks, retention finds old rows by time.
CREATE INDEX indicators_cache_time ON indicators_cache USING brin (time) WITH (autosummarize = on);
