"""Any exchange of ccxt.pro as a feed; the only room that knows ccxt.

In: what ccxt receives.
Out: records, and the exchange's past over REST.
"""
