DROP INDEX indicators_cache_time;
