DROP TABLE venue_pauses;
DROP TABLE candle_audit;
