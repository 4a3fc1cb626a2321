DROP INDEX liquidations_time;
