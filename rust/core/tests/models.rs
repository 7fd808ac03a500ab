//! The scalar models against the cases that the Python models are held to.

#![allow(clippy::unwrap_used, reason = "a test may stop at what must be there")]

use backtestr_core::models::{Bar, Tick, TickType};
use rust_decimal::Decimal;
use serde_json::Value;

const CASES: &str = include_str!("../../../tests/cases/models.json");

fn cases(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let cases = all[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn decimal(case: &Value, name: &str) -> Option<Decimal> {
    case[name].as_str().map(|text| text.parse().unwrap())
}

#[test]
fn quotes_have_their_mid_and_spread() {
    for case in cases("quotes") {
        let tick = Tick {
            symbol: "A".into(),
            timestamp_ns: 0,
            price: Decimal::ONE,
            volume: Decimal::ZERO,
            bid: decimal(&case, "bid"),
            ask: decimal(&case, "ask"),
            bid_size: None,
            ask_size: None,
            tick_type: TickType::Composite,
        };
        assert_eq!(tick.mid_price(), decimal(&case, "mid"), "{case}");
        assert_eq!(tick.spread(), decimal(&case, "spread"), "{case}");
    }
}

#[test]
fn bars_have_their_typical_price_and_true_range() {
    for case in cases("bars") {
        let bar = Bar {
            symbol: "A".into(),
            timeframe: "1m".parse().unwrap(),
            timestamp_ns: 0,
            open: decimal(&case, "close"),
            high: decimal(&case, "high"),
            low: decimal(&case, "low"),
            close: decimal(&case, "close"),
            volume: Decimal::ONE,
            trade_count: 1,
        };
        assert_eq!(bar.typical_price(), decimal(&case, "typical"), "{case}");
        assert_eq!(bar.true_range(decimal(&case, "before")), decimal(&case, "range"), "{case}");
    }
}
