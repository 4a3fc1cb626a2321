SET LOCAL search_path = analytics, public;

DROP TRIGGER ingestd_wolfinch_changed ON public.completed_trades;
DROP TRIGGER ingestd_wolfinch_added ON public.completed_trades;
DROP TABLE analytics.performance_metrics;

\ir ../drop_schema.sql
