DROP TABLE mark_prices;
