DROP VIEW fks.indicators_cache;
DROP TABLE fks.sync_status, fks.positions, fks.balance_history, fks.trades, fks.accounts;
