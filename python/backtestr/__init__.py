"""backtestr: the data layer of a backtesting engine."""

from backtestr._native import BarAggregator, aggregate_bars, vwap

__all__ = ["BarAggregator", "aggregate_bars", "vwap"]
