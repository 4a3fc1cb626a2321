DROP TABLE liquidations;
