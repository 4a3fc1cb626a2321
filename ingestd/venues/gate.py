"""Gate."""

from __future__ import annotations

from ingestd.venues.facts import Ccxt, CcxtBooks, Facts, Trades
from ingestd.venues.trade_kinds import Marks

FACTS = (
    Facts(
        exchange="gate",
        quotes_in_coins=True,
        trades=Trades(
            # "the takeover of liquidation orders by the insurance fund and ADL users …, it will not be recorded
            # in the K-line": https://www.gate.com/docs/developers/apiv4/en/#futures-market-transaction-records
            marks=Marks(flags={"is_internal": "liquidation"}, left_out=frozenset({"liquidation"})),
        ),
        ccxt=Ccxt(
            symbols_per_call=30,
            # ccxt asks for options.candlesticks, which is options.contract_candlesticks:
            # https://www.gate.com/docs/developers/options/ws/en/#contract-candlesticks-channel
            unserved={"option": frozenset({"candles"})},
        ),
        books=CcxtBooks(
            left_standing=True,
        ),
    ),
    Facts(
        exchange="gateeu",
        trades=Trades(
            # "the takeover of liquidation orders by the insurance fund and ADL users …, it will not be recorded
            # in the K-line": https://www.gate.com/docs/developers/apiv4/en/#futures-market-transaction-records
            marks=Marks(flags={"is_internal": "liquidation"}, left_out=frozenset({"liquidation"})),
        ),
        ccxt=Ccxt(
            symbols_per_call=30,
            # ccxt asks for options.candlesticks, which is options.contract_candlesticks:
            # https://www.gate.com/docs/developers/options/ws/en/#contract-candlesticks-channel
            unserved={"option": frozenset({"candles"})},
        ),
    ),
    Facts(
        exchange="gateio",
        trades=Trades(
            # "the takeover of liquidation orders by the insurance fund and ADL users …, it will not be recorded
            # in the K-line": https://www.gate.com/docs/developers/apiv4/en/#futures-market-transaction-records
            marks=Marks(flags={"is_internal": "liquidation"}, left_out=frozenset({"liquidation"})),
        ),
    ),
)
