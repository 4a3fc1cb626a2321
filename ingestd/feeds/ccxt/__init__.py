"""Any exchange of ccxt.pro as a feed; the only room that knows ccxt.

In: the updates that ccxt receives.
Out: records, and historical data over REST.
"""
