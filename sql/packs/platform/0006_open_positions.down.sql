DROP TRIGGER ingestd_platform_open_changed ON public.orders;
DROP TRIGGER ingestd_platform_open_added ON public.orders;
DROP TRIGGER ingestd_platform_open ON public.executions;
DROP FUNCTION platform.keep_opened_of_order(), platform.keep_opened(), platform.keep_open(uuid[]),
    platform.show_position(platform.position_moves, platform.position_steps),
    platform.step(platform.position_steps, platform.position_moves);
DROP VIEW platform.position_moves;
DROP TABLE platform.position_steps;
DELETE FROM platform.positions WHERE open_key IS NOT NULL;
ALTER TABLE platform.positions DROP COLUMN open_key;
