-- The four tables of the ingestion package under their names. It knows no exchange: `[packs.ingestion] exchange` says
-- whose markets the views show.
CREATE SCHEMA ingestion;
SET LOCAL search_path = ingestion, public;

\ir ../read_only.sql

-- `ingestd migrate` replaces it by one that returns the configured exchange.
CREATE FUNCTION ingestion.option_exchange() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ''::text;

-- A candle is not received, so it counts as created at the end of its bucket.
CREATE VIEW ingestion.candles_1m AS
SELECT symbol, bucket_start, open, high, low, close, volume, quote_volume, trades_count, taker_buy_base_volume,
       taker_buy_quote_volume, bucket_start + INTERVAL '1 minute' AS created_at
FROM public.candles_1m
WHERE exchange = ingestion.option_exchange();

-- The buyer was the maker where the taker sold; NULL where the venue does not say who the taker was.
CREATE VIEW ingestion.trades AS
SELECT symbol, time AS trade_ts, trade_id, price, quantity, side = 'sell' AS is_buyer_maker, side,
       received_at AS created_at
FROM public.trades
WHERE exchange = ingestion.option_exchange();

CREATE VIEW ingestion.oi_snapshots AS
SELECT symbol, time AS snapshot_ts, open_interest, open_interest_usd, basis, received_at AS created_at
FROM public.oi_snapshots
WHERE exchange = ingestion.option_exchange();

CREATE VIEW ingestion.funding AS
SELECT symbol, time AS funding_ts, funding_rate, annualised_rate, payment, received_at AS created_at
FROM public.funding
WHERE exchange = ingestion.option_exchange();

CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON ingestion.candles_1m
    FOR EACH ROW EXECUTE FUNCTION ingestion.read_only();
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON ingestion.trades
    FOR EACH ROW EXECUTE FUNCTION ingestion.read_only();
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON ingestion.oi_snapshots
    FOR EACH ROW EXECUTE FUNCTION ingestion.read_only();
CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON ingestion.funding
    FOR EACH ROW EXECUTE FUNCTION ingestion.read_only();
