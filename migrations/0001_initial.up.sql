-- Columns of every table. A column keeps its field_id for ever: files name columns by it, never by their name.
-- type is a DuckDB type; "default" is the text of the value that rows of files without the column have; null means NULL.
-- Metrics are DOUBLE: a profit factor without losers is infinite, and a return has no largest value.
-- Keys, by which the newest row wins: positions (position_id), orders (order_id), fills (fill_id), backtests and
-- backtest_metrics (backtest_id), daily_performance (backtest_id, date), exchanges (id), feeds (id).

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('ticks', 1, 'symbol', 'VARCHAR', null, null),
    ('ticks', 2, 'timestamp_utc', 'TIMESTAMP_NS', null, null),
    ('ticks', 3, 'sequence', 'BIGINT', '0', null),
    ('ticks', 4, 'epoch', 'BIGINT', '0', null),
    ('ticks', 5, 'tick_type', 'TINYINT', '0', null),
    ('ticks', 6, 'price', 'DECIMAL(18,8)', null, null),
    ('ticks', 7, 'volume', 'DECIMAL(18,8)', null, null),
    ('ticks', 8, 'bid', 'DECIMAL(18,8)', null, null),
    ('ticks', 9, 'ask', 'DECIMAL(18,8)', null, null),
    ('ticks', 10, 'bid_size', 'DECIMAL(18,8)', null, null),
    ('ticks', 11, 'ask_size', 'DECIMAL(18,8)', null, null),
    ('ticks', 12, 'exchange_id', 'USMALLINT', null, null),
    ('ticks', 13, 'conditions', 'VARCHAR', null, null),
    ('ticks', 14, 'feed_id', 'USMALLINT', null, null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('bars', 1, 'symbol', 'VARCHAR', null, null),
    ('bars', 2, 'timeframe', 'VARCHAR', null, null),
    ('bars', 3, 'price_basis', 'VARCHAR', null, null),
    ('bars', 4, 'timestamp_utc', 'TIMESTAMP_NS', null, null),
    ('bars', 5, 'open', 'DECIMAL(18,8)', null, null),
    ('bars', 6, 'high', 'DECIMAL(18,8)', null, null),
    ('bars', 7, 'low', 'DECIMAL(18,8)', null, null),
    ('bars', 8, 'close', 'DECIMAL(18,8)', null, null),
    ('bars', 9, 'volume', 'DECIMAL(38,8)', null, null),
    ('bars', 10, 'turnover', 'DECIMAL(38,16)', null, null),
    ('bars', 11, 'vwap', 'DECIMAL(18,8)', null, null),
    ('bars', 12, 'trade_count', 'BIGINT', '0', null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('quarantine', 1, 'source', 'VARCHAR', null, null),
    ('quarantine', 2, 'member', 'VARCHAR', null, null),
    ('quarantine', 3, 'line', 'BIGINT', null, null),
    ('quarantine', 4, 'reasons', 'VARCHAR[]', null, null),
    ('quarantine', 5, 'raw', 'VARCHAR', null, null),
    ('quarantine', 6, 'symbol', 'VARCHAR', null, null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('exchanges', 1, 'id', 'USMALLINT', null, null),
    ('exchanges', 2, 'code', 'VARCHAR', null, null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('feeds', 1, 'id', 'USMALLINT', null, null),
    ('feeds', 2, 'name', 'VARCHAR', null, null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('positions', 1, 'position_id', 'UUID', null, null),
    ('positions', 2, 'backtest_id', 'UUID', null, null),
    ('positions', 3, 'symbol', 'VARCHAR', null, null),
    ('positions', 4, 'entry_timestamp', 'TIMESTAMP', null, null),
    ('positions', 5, 'exit_timestamp', 'TIMESTAMP', null, null),
    ('positions', 6, 'side', 'ENUM(''long'', ''short'')', null, null),
    ('positions', 7, 'quantity', 'DECIMAL(18,8)', null, null),
    ('positions', 8, 'entry_price', 'DECIMAL(18,8)', null, null),
    ('positions', 9, 'exit_price', 'DECIMAL(18,8)', null, null),
    ('positions', 10, 'unrealized_pnl', 'DECIMAL(18,8)', '0', null),
    ('positions', 11, 'realized_pnl', 'DECIMAL(18,8)', '0', null),
    ('positions', 12, 'fees', 'DECIMAL(18,8)', '0', null),
    ('positions', 13, 'status', 'ENUM(''open'', ''closed'', ''partially_filled'')', 'open', null),
    ('positions', 14, 'metadata', 'STRUCT(strategy_id VARCHAR, signal_strength DOUBLE, stop_loss DECIMAL(18,8), take_profit DECIMAL(18,8), tags VARCHAR[])', null, null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('orders', 1, 'order_id', 'UUID', null, null),
    ('orders', 2, 'backtest_id', 'UUID', null, null),
    ('orders', 3, 'position_id', 'UUID', null, null),
    ('orders', 4, 'symbol', 'VARCHAR', null, null),
    ('orders', 5, 'timestamp_utc', 'TIMESTAMP', null, null),
    ('orders', 6, 'order_type', 'ENUM(''market'', ''limit'', ''stop'', ''stop_limit'')', null, null),
    ('orders', 7, 'side', 'ENUM(''buy'', ''sell'')', null, null),
    ('orders', 8, 'quantity', 'DECIMAL(18,8)', null, null),
    ('orders', 9, 'price', 'DECIMAL(18,8)', null, null),
    ('orders', 10, 'stop_price', 'DECIMAL(18,8)', null, null),
    ('orders', 11, 'filled_quantity', 'DECIMAL(18,8)', '0', null),
    ('orders', 12, 'avg_fill_price', 'DECIMAL(18,8)', null, null),
    ('orders', 13, 'status', 'ENUM(''pending'', ''filled'', ''partially_filled'', ''cancelled'', ''rejected'')', null, null),
    ('orders', 14, 'fill_timestamp', 'TIMESTAMP', null, null),
    ('orders', 15, 'fees', 'DECIMAL(18,8)', '0', null),
    ('orders', 16, 'slippage', 'DECIMAL(18,8)', '0', null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('fills', 1, 'fill_id', 'UUID', null, null),
    ('fills', 2, 'order_id', 'UUID', null, null),
    ('fills', 3, 'backtest_id', 'UUID', null, null),
    ('fills', 4, 'symbol', 'VARCHAR', null, null),
    ('fills', 5, 'timestamp_utc', 'TIMESTAMP', null, null),
    ('fills', 6, 'side', 'ENUM(''buy'', ''sell'')', null, null),
    ('fills', 7, 'quantity', 'DECIMAL(18,8)', null, null),
    ('fills', 8, 'price', 'DECIMAL(18,8)', null, null),
    ('fills', 9, 'fees', 'DECIMAL(18,8)', '0', null),
    ('fills', 10, 'slippage', 'DECIMAL(18,8)', '0', null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('backtests', 1, 'backtest_id', 'UUID', null, null),
    ('backtests', 2, 'name', 'VARCHAR', null, null),
    ('backtests', 3, 'strategy_name', 'VARCHAR', null, null),
    ('backtests', 4, 'start_date', 'DATE', null, null),
    ('backtests', 5, 'end_date', 'DATE', null, null),
    ('backtests', 6, 'initial_capital', 'DECIMAL(18,8)', null, null),
    ('backtests', 7, 'symbols', 'VARCHAR[]', null, null),
    ('backtests', 8, 'timeframe', 'VARCHAR', null, null),
    ('backtests', 9, 'commission_rate', 'DECIMAL(8,6)', '0.001', null),
    ('backtests', 10, 'slippage_rate', 'DECIMAL(8,6)', '0.0001', null),
    ('backtests', 11, 'created_at', 'TIMESTAMP', null, null),
    ('backtests', 12, 'completed_at', 'TIMESTAMP', null, null),
    ('backtests', 13, 'status', 'ENUM(''running'', ''completed'', ''failed'', ''cancelled'')', 'running', null),
    ('backtests', 14, 'metadata', 'VARCHAR', null, null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('backtest_metrics', 1, 'backtest_id', 'UUID', null, null),
    ('backtest_metrics', 2, 'total_return', 'DOUBLE', null, null),
    ('backtest_metrics', 3, 'annual_return', 'DOUBLE', null, null),
    ('backtest_metrics', 4, 'sharpe_ratio', 'DOUBLE', null, null),
    ('backtest_metrics', 5, 'sortino_ratio', 'DOUBLE', null, null),
    ('backtest_metrics', 6, 'max_drawdown', 'DOUBLE', null, null),
    ('backtest_metrics', 7, 'win_rate', 'DOUBLE', null, null),
    ('backtest_metrics', 8, 'profit_factor', 'DOUBLE', null, null),
    ('backtest_metrics', 9, 'total_trades', 'BIGINT', null, null),
    ('backtest_metrics', 10, 'avg_trade_duration', 'INTERVAL', null, null),
    ('backtest_metrics', 11, 'avg_win', 'DECIMAL(18,8)', null, null),
    ('backtest_metrics', 12, 'avg_loss', 'DECIMAL(18,8)', null, null),
    ('backtest_metrics', 13, 'largest_win', 'DECIMAL(18,8)', null, null),
    ('backtest_metrics', 14, 'largest_loss', 'DECIMAL(18,8)', null, null),
    ('backtest_metrics', 15, 'consecutive_wins', 'BIGINT', null, null),
    ('backtest_metrics', 16, 'consecutive_losses', 'BIGINT', null, null),
    ('backtest_metrics', 17, 'calmar_ratio', 'DOUBLE', null, null),
    ('backtest_metrics', 18, 'var_95', 'DOUBLE', null, null),
    ('backtest_metrics', 19, 'expected_shortfall', 'DOUBLE', null, null);

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('daily_performance', 1, 'backtest_id', 'UUID', null, null),
    ('daily_performance', 2, 'date', 'DATE', null, null),
    ('daily_performance', 3, 'portfolio_value', 'DECIMAL(18,8)', null, null),
    ('daily_performance', 4, 'daily_return', 'DOUBLE', null, null),
    ('daily_performance', 5, 'daily_pnl', 'DECIMAL(18,8)', null, null),
    ('daily_performance', 6, 'drawdown', 'DOUBLE', null, null),
    ('daily_performance', 7, 'open_positions', 'BIGINT', '0', null),
    ('daily_performance', 8, 'trades_today', 'BIGINT', '0', null);
