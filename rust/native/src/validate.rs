//! `validate_ticks` and `TickValidator`.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::RecordBatch;
use backtestr_core::decimal::parse_exact;
use backtestr_core::reasons::ALL;
use backtestr_core::validate::{Rules, Validated, Validator, bit};
use backtestr_core::{Error, Result, complete, schema};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::boundary::{ArrowInput, enter, hold, table};
use crate::errors::to_py;

/// The attributes of `backtestr.models.ValidationRules`.
pub(crate) struct RuleAttributes {
    rules: Rules,
    per_symbol: Vec<(String, Rules)>,
}

impl<'a, 'py> FromPyObject<'a, 'py> for RuleAttributes {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let mut per_symbol = Vec::new();
        for item in object.getattr("per_symbol")?.call_method0("items")?.try_iter()? {
            let (symbol, given): (String, Bound<'py, PyAny>) = item?.extract()?;
            per_symbol.push((symbol, rules(&given)?));
        }
        Ok(Self { rules: rules(&object)?, per_symbol })
    }
}

fn rules(given: &Bound<'_, PyAny>) -> PyResult<Rules> {
    let mut rules = Rules::default();
    if let Some(names) = given.getattr("reject")?.extract::<Option<HashSet<String>>>()? {
        rules.reject = bits(given.py(), &names)?;
        rules.flag &= !rules.reject;
    }
    if let Some(names) = given.getattr("flag")?.extract::<Option<HashSet<String>>>()? {
        rules.flag = bits(given.py(), &names)?;
        rules.reject &= !rules.flag;
    }
    rules.now_ns = given.getattr("now_ns")?.extract()?;
    rules.max_future_ns = given.getattr("max_future_ns")?.extract()?;
    let max_jump = given.getattr("max_jump")?;
    if !max_jump.is_none() {
        let bound = parse_exact(max_jump.str()?.to_str()?.as_bytes(), 0);
        if bound.faults != 0 {
            let message = format!("max_jump={max_jump}: give a fraction of at most 8 decimals, such as 0.2");
            return Err(to_py(given.py(), Error::Argument(message)));
        }
        rules = rules.with_max_jump(bound.value);
    }
    Ok(rules)
}

fn bits(py: Python<'_>, names: &HashSet<String>) -> PyResult<u32> {
    names.iter().try_fold(0, |mask, name| {
        let unknown = || Error::Argument(format!("{name:?} is no reason; backtestr.REASONS lists them"));
        bit(name).map(|bit| mask | bit).ok_or_else(|| to_py(py, unknown()))
    })
}

fn validator(given: Option<RuleAttributes>) -> Validator {
    match given {
        Some(given) => Validator::new(given.rules, given.per_symbol),
        None => Validator::new(Rules::default(), []),
    }
}

/// Accepted rows, rejected rows or None where there are none, and counts.
type Answer<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>, Bound<'py, PyDict>);

/// The present in ns since 1970-01-01 UTC; the core has no clock.
fn clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn run(validator: &mut Validator, data: &ArrowInput) -> Result<Vec<Validated>> {
    let clock_ns = clock_ns();
    if data.batches.is_empty() {
        return Ok(vec![validator.validate(&RecordBatch::new_empty(data.schema.clone()), clock_ns)?]);
    }
    data.batches.iter().map(|batch| validator.validate(batch, clock_ns)).collect()
}

fn number(data: &mut ArrowInput, mut first: i64) -> Result<()> {
    for batch in &mut data.batches {
        *batch = complete::number(batch, first)?;
        first += batch.num_rows() as i64;
    }
    Ok(())
}

fn answer(py: Python<'_>, parts: Vec<Validated>, even_empty: bool) -> PyResult<Answer<'_>> {
    let counts = PyDict::new(py);
    for (number, (name, _)) in ALL.iter().enumerate() {
        let rows: u64 = parts.iter().map(|part| part.counts[number]).sum();
        if rows > 0 {
            counts.set_item(name, rows)?;
        }
    }
    let (accepted, rejected): (Vec<_>, Vec<_>) =
        parts.into_iter().map(|part| (part.accepted, part.rejected)).unzip();
    let schema = |batches: &[RecordBatch]| batches.first().map_or_else(schema::ticks, RecordBatch::schema);
    let is_wanted = even_empty || rejected.iter().any(|rows| rows.num_rows() > 0);
    let rejected = is_wanted.then(|| table(py, schema(&rejected), rejected)).transpose()?;
    Ok((table(py, schema(&accepted), accepted)?, rejected, counts))
}

/// Accepted rows, rejected rows with reasons, and counts; see `_native.pyi`.
#[pyfunction]
#[pyo3(signature = (data, *, rules = None))]
pub(crate) fn validate_ticks(
    py: Python<'_>,
    data: ArrowInput,
    rules: Option<RuleAttributes>,
) -> PyResult<Answer<'_>> {
    let mut validator = validator(rules);
    let parts = enter(py, || run(&mut validator, &data))?;
    answer(py, parts, true)
}

/// Validates batch by batch; methods may be called from any thread.
#[pyclass(frozen, module = "backtestr._native")]
pub(crate) struct TickValidator(Mutex<Validator>);

#[pymethods]
impl TickValidator {
    #[new]
    #[pyo3(signature = (*, rules = None))]
    fn new(rules: Option<RuleAttributes>) -> Self {
        Self(Mutex::new(validator(rules)))
    }

    /// As `validate_ticks`, going on where the last batch ended; see `_native.pyi`.
    #[pyo3(signature = (data, *, first_sequence = None, feed_id = None))]
    fn validate<'py>(
        &self,
        py: Python<'py>,
        mut data: ArrowInput,
        first_sequence: Option<i64>,
        feed_id: Option<u16>,
    ) -> PyResult<Answer<'py>> {
        let parts = enter(py, || {
            if let Some(first) = first_sequence {
                number(&mut data, first)?;
            }
            let mut parts = run(&mut hold(&self.0), &data)?;
            if feed_id.is_some() {
                for part in &mut parts {
                    part.accepted = complete::complete(&part.accepted, feed_id)?;
                }
            }
            Ok(parts)
        })?;
        answer(py, parts, false)
    }
}

/// Validated rows with the columns that every tick has; see `_native.pyi`.
#[pyfunction]
#[pyo3(signature = (data, feed_id = None))]
pub(crate) fn complete_ticks(
    py: Python<'_>,
    data: ArrowInput,
    feed_id: Option<u16>,
) -> PyResult<Bound<'_, PyAny>> {
    let (schema, batches) = enter(py, || {
        let none = complete::complete(&RecordBatch::new_empty(data.schema.clone()), feed_id)?;
        let batches: Result<Vec<_>> =
            data.batches.iter().map(|batch| complete::complete(batch, feed_id)).collect();
        Ok((none.schema(), batches?))
    })?;
    table(py, schema, batches)
}

/// Every reason's bit, by name.
pub(crate) fn reasons(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let names = PyDict::new(py);
    for (name, bit) in ALL {
        names.set_item(name, bit)?;
    }
    Ok(names)
}
