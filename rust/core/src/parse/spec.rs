//! What a text format looks like: separator, quotes, and what each field holds.

use std::collections::HashMap;

use serde::Deserialize;

/// A delimited text format, as given by the caller.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// One byte between fields.
    pub separator: char,
    /// One byte around fields, or none.
    #[serde(default)]
    pub quote: Option<char>,
    /// The fields of every row, in order.
    pub fields: Vec<FieldSpec>,
    /// The symbol of every row, where no field holds it.
    #[serde(default)]
    pub symbol: Option<String>,
    /// The zone of local times: an IANA name or an offset such as `-05:00`.
    #[serde(default)]
    pub zone: Option<String>,
    /// The day (`YYYY-MM-DD`) of times without one.
    #[serde(default)]
    pub date: Option<String>,
}

/// One field of a row.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// `symbol`, `timestamp`, `date`, `price`, `volume`, `bid`, `ask`, `bid_size`, `ask_size`, `tick_type`,
    /// `exchange`, `conditions`, `suspicious`, `sequence` or `ignore`.
    pub target: String,
    /// Of times: `iso`, `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, `ms_of_day` or a strptime pattern.
    #[serde(default)]
    pub format: Option<String>,
    /// Of numbers: the value is the text times ten to this power.
    #[serde(default)]
    pub power: i32,
    /// Of numbers: the text is a printed binary float; digits beyond the eighth are rounded and flagged.
    #[serde(default)]
    pub float: bool,
    /// Of numbers: the decimal point is a comma.
    #[serde(default)]
    pub comma: bool,
    /// Of numbers: zero means that there is no value.
    #[serde(default)]
    pub zero_is_absent: bool,
    /// Of numbers: an empty field means that there is no value (else it is an unreadable one).
    #[serde(default)]
    pub empty_is_absent: bool,
    /// Of `tick_type`: text to code.
    #[serde(default)]
    pub codes: HashMap<String, i8>,
}
