CREATE FUNCTION ingestd_fill_book_prices() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.bid_price := public.ingestd_best_price(NEW.bids);
    NEW.ask_price := public.ingestd_best_price(NEW.asks);
    RETURN NEW;
END
$$;
CREATE TRIGGER ingestd_book_prices BEFORE INSERT ON order_book FOR EACH ROW
    WHEN (NEW.bid_price IS NULL AND NEW.ask_price IS NULL) EXECUTE FUNCTION ingestd_fill_book_prices();
