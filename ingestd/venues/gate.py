"""Gate."""

from __future__ import annotations

from ingestd.venues import families
from ingestd.venues.ccxt_books import CcxtBooks, Numbering
from ingestd.venues.facts import IN_CONTRACTS, Ccxt, Facts, Quantities
from ingestd.venues.trades import Marks, Trades

_TRADES = Trades(
    # "the takeover of liquidation orders by the insurance fund and ADL users …, it will not be recorded
    # in the K-line": https://www.gate.com/docs/developers/apiv4/en/#futures-market-transaction-records
    marks=Marks(flags={"is_internal": "liquidation"}, not_in_candles=frozenset({"liquidation"}))
)
_CCXT = Ccxt(
    symbols_per_call=30,
    # ccxt subscribes to options.candlesticks; the right name is options.contract_candlesticks:
    # https://www.gate.com/docs/developers/options/ws/en/#contract-candlesticks-channel
    unserved={"option": frozenset({"candles"})},
)

FACTS = (
    Facts(
        exchange="gate",
        former_names=("gateio", "gateiofutures"),
        quantities=Quantities(
            # "Open interest size (contracts)" and the like:
            # https://github.com/gateio/gateapi-python/tree/master/docs
            in_contracts=True,
            quanto_multiplier=True,
        ),
        # open_interest: "Total open interest size (contracts)";
        # https://www.gate.com/docs/developers/apiv4/en/#futures-statistics
        open_interest=IN_CONTRACTS,
        families_by_request=(
            ("margin", families.BESIDE),
            ("spot", families.SPOT),
            ("futures {settle}/contracts settle=usdt", families.LINEAR),
            ("futures {settle}/contracts", families.INVERSE),
            ("delivery", families.DATED),
            ("options", families.OPTIONS),
        ),
        quotes_in_coins=True,
        trades=_TRADES,
        ccxt=_CCXT,
        books=CcxtBooks(
            # https://www.gate.com/docs/developers/apiv4/ws/en/#changed-order-book-levels
            numbering=Numbering(("U",), ("u",)),
            kept_when_broken=True,
        ),
    ),
    Facts(exchange="gateeu", open_interest=IN_CONTRACTS, trades=_TRADES, ccxt=_CCXT),
)
