"""Ingest the two sample files and print what came of them; run it as ``make demo``."""

from __future__ import annotations

from pathlib import Path

import backtestr as bt

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
STORE = ROOT / "demo-store"
QUERY = """
    select symbol, count(*) as trades, min(price) as low, max(price) as high, sum(volume) as volume
    from ticks group by symbol order by symbol
"""


def main() -> None:
    """Two files in, bars of three timeframes out."""
    with bt.open(STORE) as store:
        print(store.ingest(SAMPLES / "questdb/btc_trades.csv", source="csv", feed="coinbase"), end="\n\n")
        # symbol, market, day and zone are read from Lean's own folders and file names
        print(store.ingest(SAMPLES / "lean/equity/usa/tick/ibm/20131008_trade.zip", source="lean"), end="\n\n")
        for symbol, timeframe in (("BTC-USD", "15m"), ("IBM", "1h"), ("IBM", "1d")):
            print(f"{symbol}, bars of {timeframe}")
            print(store.bars(symbol, timeframe), end="\n\n")
        print("SQL over the ticks")
        print(store.sql(QUERY), end="\n\n")
        print(store.info())
        print(f"The store is {STORE}; run the demo again, and every row is known to be a duplicate.")


if __name__ == "__main__":
    main()
