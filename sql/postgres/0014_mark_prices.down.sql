DROP INDEX mark_prices_time;
