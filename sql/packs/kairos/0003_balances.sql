-- Balances by asset and exchange, which ingestd keeps from snapshots, fills and open orders.
CREATE VIEW kairos.balances AS
SELECT asset, exchange, available, locked, updated_at
FROM public.balances;

CREATE TRIGGER read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON kairos.balances
    FOR EACH ROW EXECUTE FUNCTION kairos.read_only();
