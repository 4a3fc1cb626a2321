UPDATE order_book SET bid_price = ingestd_best_price(bids), ask_price = ingestd_best_price(asks)
WHERE bid_price IS NULL AND ask_price IS NULL
