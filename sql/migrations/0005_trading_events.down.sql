DROP TABLE audit.trade_logs;
DROP SCHEMA audit;
DROP TABLE completed_trades;
DROP TABLE executions;
DROP TABLE orders;
