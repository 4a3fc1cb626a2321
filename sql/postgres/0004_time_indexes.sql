-- Without chunks, retention finds old rows by time: a BRIN index costs an insert next to nothing.

CREATE INDEX market_ticks_time ON market_ticks USING brin (time) WITH (autosummarize = on);
CREATE INDEX trades_time       ON trades       USING brin (time) WITH (autosummarize = on);
CREATE INDEX order_book_time   ON order_book   USING brin (time) WITH (autosummarize = on);
CREATE INDEX oi_snapshots_time ON oi_snapshots USING brin (time) WITH (autosummarize = on);
CREATE INDEX funding_time      ON funding      USING brin (time) WITH (autosummarize = on);
CREATE INDEX ohlcv_data_time   ON ohlcv_data   USING brin (time) WITH (autosummarize = on);
