"""backtestr: the data layer of a backtesting engine."""
