DROP VIEW kairos.balances;
