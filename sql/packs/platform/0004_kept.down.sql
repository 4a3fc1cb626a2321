DROP TRIGGER ingestd_platform_positions ON public.completed_trades;
DROP TRIGGER ingestd_platform_orders ON public.orders;
DROP FUNCTION platform.keep_position(), platform.keep_order(), platform.measure(integer, timestamptz),
    platform.strategy_id(text), platform.know_strategies(text[]);
