DROP TRIGGER ingestd_fks_pnl_changed ON public.completed_trades;
DROP TRIGGER ingestd_fks_pnl_added ON public.completed_trades;
DROP TRIGGER ingestd_fks_balances ON public.balance_snapshots;
DROP TRIGGER follow_account ON fks.accounts;
DROP FUNCTION fks.follow_pnl_changed(), fks.follow_pnl_added(), fks.note_pnl(text, timestamptz), fks.follow_account(),
    fks.follow_balances(), fks.note_balances(text, uuid[]), fks.worth(text, text, numeric, text, timestamptz),
    fks.pnl_until(text, text, timestamptz), fks.account_of(text), fks.take_turn(), fks.note_sync(),
    fks.candles_table(text), fks.bucket(timestamptz, text);
DELETE FROM fks.balance_history WHERE event_id IS NOT NULL;
DROP INDEX fks.balance_history_events;
ALTER TABLE fks.balance_history DROP COLUMN event_id;
UPDATE fks.balance_history SET equity = balance WHERE equity IS NULL;
ALTER TABLE fks.balance_history ALTER COLUMN equity SET NOT NULL;
DELETE FROM fks.sync_status WHERE is_kept;
ALTER TABLE fks.sync_status DROP COLUMN is_kept;
