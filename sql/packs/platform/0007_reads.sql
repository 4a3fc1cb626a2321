-- market_data as a view of the one relation that has the configured interval, and symbols of the one column that has the
-- database's names. The union of 0001 is planned with all nine relations, which takes longer than to read a day of hours.
-- Each `ingestd migrate` calls options_changed(), for the interval and the style may be others then.
CREATE FUNCTION platform.options_changed() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW platform.market_data AS
         SELECT bucket_start AS "time", symbol, exchange, open, high, low, close, volume, trades_count AS trades
         FROM public.%I',
        'candles_' || platform.option_interval());
    EXECUTE format(
        'CREATE OR REPLACE VIEW platform.symbols AS
         SELECT %I AS symbol, exchange, base_currency, quote_currency, status, min_order_size, max_order_size,
                price_precision, quantity_precision
         FROM public.symbols',
        coalesce((SELECT CASE value WHEN 'compact' THEN 'compact' WHEN 'dash' THEN 'dash' WHEN 'venue' THEN 'venue_name' END
                  FROM public.ingestd_settings WHERE name = 'symbol_style'), 'symbol'));
END
$$;
REVOKE ALL ON FUNCTION platform.options_changed() FROM PUBLIC;

SELECT platform.options_changed();
