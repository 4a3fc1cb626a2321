DROP TRIGGER ingestd_wolfinch_changed ON public.completed_trades;
DROP TRIGGER ingestd_wolfinch_added ON public.completed_trades;
DROP SCHEMA analytics CASCADE;
