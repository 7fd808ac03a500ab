delete from financial_data.data_columns where table_name in (
    'ticks',
    'bars',
    'quarantine',
    'exchanges',
    'feeds',
    'positions',
    'orders',
    'fills',
    'backtests',
    'backtest_metrics',
    'daily_performance'
);
