DROP TABLE fks.sync_status, fks.positions, fks.indicators_cache, fks.balance_history, fks.trades, fks.accounts;
