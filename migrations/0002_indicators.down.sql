delete from financial_data.data_columns where table_name = 'bars' and field_id between 13 and 20;
