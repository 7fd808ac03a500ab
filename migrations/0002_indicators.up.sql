-- Technical indicators of bars: null until something computes them. Files that lack them are not rewritten.

insert into financial_data.data_columns (table_name, field_id, name, type, "default", dropped_lsn) values
    ('bars', 13, 'sma_20', 'DOUBLE', null, null),
    ('bars', 14, 'ema_20', 'DOUBLE', null, null),
    ('bars', 15, 'rsi_14', 'DOUBLE', null, null),
    ('bars', 16, 'bollinger_upper', 'DOUBLE', null, null),
    ('bars', 17, 'bollinger_lower', 'DOUBLE', null, null),
    ('bars', 18, 'macd_line', 'DOUBLE', null, null),
    ('bars', 19, 'macd_signal', 'DOUBLE', null, null),
    ('bars', 20, 'macd_histogram', 'DOUBLE', null, null);
