use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, TimestampNanosecondType};

use super::super::spec::{FieldSpec, TextSpec};
use super::{Parsed, parse_text};
use crate::error::Error;

fn spec(targets: &[&str]) -> TextSpec {
    TextSpec {
        separator: ',',
        quote: Some('"'),
        fields: targets
            .iter()
            .map(|target| FieldSpec { target: (*target).into(), ..FieldSpec::default() })
            .collect(),
        symbol: None,
        zone: None,
        date: None,
    }
}

const TICKS: [&str; 4] = ["symbol", "timestamp", "price", "conditions"];

fn parse(text: &str) -> crate::Result<Parsed> {
    parse_text(text.as_bytes(), &spec(&TICKS), true, 1)
}

fn prices(parsed: &Parsed) -> Vec<i128> {
    let column = parsed.batch.column_by_name("price").unwrap();
    column.as_primitive::<Decimal128Type>().values().to_vec()
}

fn structure(text: &str) -> (String, u64, u64) {
    match parse(text).unwrap_err() {
        Error::Structure { message, line, column } => (message, line, column),
        other => panic!("{other}"),
    }
}

#[test]
fn rows_with_every_kind_of_line_end() {
    for end in ["\n", "\r\n"] {
        for tail in ["", end] {
            let text = format!("A,2020-01-01T00:00:00,1.5,{end}{end}\"B\",2020-01-01T00:00:01,2.5,x{tail}");
            let parsed = parse(&text).unwrap();
            assert_eq!(prices(&parsed), [150_000_000, 250_000_000]);
            assert_eq!(parsed.consumed, text.len());
            let times = parsed.batch.column_by_name("timestamp_utc").unwrap();
            let times = times.as_primitive::<TimestampNanosecondType>();
            assert_eq!(times.value(1) - times.value(0), 1_000_000_000);
            assert_eq!(parsed.batch.column_by_name("conditions").unwrap().null_count(), 1);
        }
    }
}

#[test]
fn quoted_fields_hold_separators_quotes_and_lines() {
    let parsed =
        parse("\"A,\"\"x\"\"\",2020-01-01T00:00:00,\"1\",\"two\nlines\"\nB,2020-01-01T00:00:00,2,\n")
            .unwrap();
    let symbols = parsed.batch.column_by_name("symbol").unwrap();
    let symbols = symbols.as_dictionary::<Int32Type>();
    assert_eq!(symbols.values().as_string::<i32>().value(0), "A,\"x\"");
    assert_eq!(prices(&parsed), [100_000_000, 200_000_000]);
    assert_eq!(parsed.lines, 3);
}

#[test]
fn every_cut_gives_the_same_rows() {
    let text =
        "A,2020-01-01T00:00:00,1,\r\n\"B\",2020-01-01T00:00:00,2,\"a\nb\"\n\nC,2020-01-01T00:00:00,3,\"\"";
    for cut in 0..=text.len() {
        let first = parse_text(&text.as_bytes()[..cut], &spec(&TICKS), false, 1).unwrap();
        let rest = parse_text(&text.as_bytes()[first.consumed..], &spec(&TICKS), true, 1).unwrap();
        let found = [prices(&first), prices(&rest)].concat();
        assert_eq!(found, [100_000_000, 200_000_000, 300_000_000], "cut at {cut}");
        assert_eq!(first.lines + rest.lines, 4);
    }
}

#[test]
fn broken_quotes_name_the_line_where_they_opened() {
    let row = "\"A\",2020-01-01T00:00:00,1,\"x\"\n";
    let cases = [
        (format!("{row}\"A,2020-01-01T00:00:00,1,\"x\"\n{row}"), 2, 1),
        (format!("{row}A\",2020-01-01T00:00:00,1,\"x\"\n{row}"), 2, 1),
        (format!("{row}\"A\",2020-01-01T00:00:00,1,\"x\n{row}{row}"), 2, 4),
        (format!("{row}{row}\"A\",2020-01-01T00:00:00,1,\"x"), 3, 4),
        (format!("{row}\"A\"b,2020-01-01T00:00:00,1,\n"), 2, 1),
    ];
    for (text, line, column) in cases {
        let (message, found_line, found_column) = structure(&text);
        assert_eq!((found_line, found_column), (line, column), "{message}: {text}");
        assert!(message.contains("quote"), "{message}");
    }
}

#[test]
fn structure_has_line_and_field() {
    let good = "A,2020-01-01T00:00:00,1,\n";
    assert_eq!(structure(&format!("{good}A,2020-01-01T00:00:00,1\n")).1, 2);
    assert_eq!(structure(&format!("{good}A,2020-01-01T00:00:00,1,,\n")).2, 5);
    assert_eq!(structure(&format!("{good}A,2020-01-01T00:00:00,1\0,\n")).2, 3);
    let mut bytes = format!("{good}A,2020-01-01T00:00:00,1,").into_bytes();
    bytes.extend([0xe9, b'\n']);
    let error = parse_text(&bytes, &spec(&TICKS), true, 10).unwrap_err();
    assert!(error.to_string().contains("(line 11, column 4)"), "{error}");
}

#[test]
fn values_set_bits_and_never_stop() {
    let parsed = parse(",never,x,\nA,2020-01-01T00:00:00,0.000000001,\nA,2020-01-01T00:00:00,1,\n").unwrap();
    let faults = parsed.batch.column_by_name("faults").unwrap();
    let faults = faults.as_primitive::<arrow_array::types::UInt32Type>();
    assert_eq!(faults.values()[..], [1 | 1 << 5 | 1 << 8, 1 << 6, 0]);
}

#[test]
fn blanks_without_a_line_end_are_no_row() {
    for end in ["\r", " ", "  \r", "\n \r"] {
        let text = format!("A,2020-01-01T00:00:00,1,\n{end}");
        let parsed = parse(&text).unwrap();
        assert_eq!((parsed.batch.num_rows(), parsed.consumed), (1, text.len()), "{end:?}");
    }
}
