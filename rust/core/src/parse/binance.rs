//! Binance websocket lines as recorders keep them: `<receive time, ns> <message>`.

use memchr::{memchr, memchr_iter, memrchr};

use super::Parsed;
use super::columns::{Columns, Texts, Values};
use super::fault;
use super::number;
use super::time::digits;
use crate::error::{Error, Result};
use crate::schema;

/// Which clock stamps the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinanceClock {
    /// The exchange's: trade time, or the event's transaction time; a message without one has the receive time.
    Exchange,
    /// The recorder's.
    Receive,
}

/// The fields of a message that make a tick; borrowed from the line.
#[derive(Default)]
struct Message<'a> {
    kind: &'a [u8],
    symbol: &'a [u8],
    event_ms: Option<i64>,
    trade_ms: Option<i64>,
    trade_id: Option<i64>,
    update_id: Option<i64>,
    price: &'a [u8],
    quantity: &'a [u8],
    bid: &'a [u8],
    bid_size: &'a [u8],
    ask: &'a [u8],
    ask_size: &'a [u8],
    has_bid: bool,
    has_ask: bool,
}

/// Parse the complete lines of a chunk: trades and best quotes become rows, depth and everything else is counted as skipped.
///
/// # Errors
/// `Structure` for a line that is not a time and a JSON object.
pub fn parse_binance(chunk: &[u8], clock: BinanceClock, last: bool, first_line: u64) -> Result<Parsed> {
    if u32::try_from(chunk.len()).is_err() {
        return Err(Error::Argument("a chunk of lines is at most 4 GiB".into()));
    }
    let end = if last { chunk.len() } else { memrchr(b'\n', chunk).map_or(0, |at| at + 1) };
    let bytes = &chunk[..end];
    let rows = end / 128;
    let mut columns = Columns::new(rows);
    columns.symbol = Some(Texts::new(rows));
    columns.tick_type = Some(Values::new(rows));
    columns.sequence = Some(Values::new(rows));
    columns.numbers = std::array::from_fn(|_| Some(Values::new(rows)));
    let (mut start, mut line, mut skipped) = (0, first_line, 0);
    while start < end {
        let stop = memchr(b'\n', &bytes[start..]).map_or(end, |at| start + at);
        let text = bytes[start..stop].trim_ascii();
        if !text.is_empty() {
            let refuse = |what: &str| Error::Structure {
                message: format!("not a recorded Binance message: {what}"),
                line,
                column: 0,
            };
            let space = memchr(b' ', text).ok_or_else(|| refuse("no space after the receive time"))?;
            let received = digits(&text[..space])
                .or_else(|| std::str::from_utf8(&text[..space]).ok()?.parse().ok())
                .ok_or_else(|| refuse("the line does not begin with the receive time in ns"))?;
            let json = text[space..].trim_ascii();
            if std::str::from_utf8(json).is_err() {
                return Err(refuse("bytes that are not UTF-8"));
            }
            let message = read_message(json).ok_or_else(|| refuse("the JSON object is broken"))?;
            if !push(&message, received, clock, start as u32, &mut columns) {
                skipped += 1;
            }
        }
        start = (stop + 1).min(end);
        line += 1;
    }
    Ok(Parsed {
        batch: columns.finish()?,
        consumed: end,
        lines: memchr_iter(b'\n', bytes).count() as u64,
        skipped,
    })
}

/// Append a trade or quote; false for any other message.
fn push<'a>(
    message: &Message<'a>,
    received: i64,
    clock: BinanceClock,
    offset: u32,
    columns: &mut Columns<'a>,
) -> bool {
    let trade = message.kind == b"trade";
    let nested = [message.bid, message.ask].iter().any(|text| matches!(text.first(), Some(b'[' | b'{')));
    let quote = message.has_bid && message.has_ask && !nested && matches!(message.kind, b"" | b"bookTicker");
    if !trade && !quote {
        return false;
    }
    let mut faults = 0;
    if !columns.symbol.as_mut().is_some_and(|column| column.push(message.symbol)) {
        faults |= fault::SYMBOL_MISSING;
    }
    let exchange_ms = message.trade_ms.or(message.event_ms);
    let time = match (clock, exchange_ms) {
        (BinanceClock::Exchange, Some(time)) => {
            time.checked_mul(if time > 100_000_000_000_000 { 1_000 } else { 1_000_000 })
        }
        _ => Some(received),
    };
    match time {
        Some(time) => columns.timestamp.push(time),
        None => {
            columns.timestamp.push_absent();
            faults |= fault::TIMESTAMP_OUT_OF_RANGE;
        }
    }
    if let Some(column) = &mut columns.tick_type {
        column.push(if trade { schema::TRADE } else { schema::COMPOSITE });
    }
    if let Some(column) = &mut columns.sequence {
        match if trade { message.trade_id } else { message.update_id } {
            Some(id) => column.push(id),
            None => {
                column.push_absent();
                faults |= fault::NOT_A_NUMBER;
            }
        }
    }
    let none: &[u8] = &[];
    let values = if trade {
        [message.price, message.quantity, none, none, none, none]
    } else {
        [none, none, message.bid, message.ask, message.bid_size, message.ask_size]
    };
    for (index, (text, column)) in values.into_iter().zip(&mut columns.numbers).enumerate() {
        let Some(column) = column else { continue };
        if trade != (index < 2) {
            column.push_absent();
            continue;
        }
        match number::parse(text, 0, false) {
            Ok((value, bits)) => {
                column.push(i128::from(value));
                faults |= bits;
            }
            Err(bits) => {
                column.push_absent();
                faults |= bits;
            }
        }
    }
    columns.end_row(offset, faults);
    true
}

/// The message's fields: those of `data` where it is wrapped in a stream's envelope.
fn read_message(json: &[u8]) -> Option<Message<'_>> {
    let mut message = Message::default();
    let rest = object(json, &mut message, 0)?;
    rest.trim_ascii().is_empty().then_some(message)
}

fn object<'a>(json: &'a [u8], message: &mut Message<'a>, depth: usize) -> Option<&'a [u8]> {
    let mut rest = json.strip_prefix(b"{")?.trim_ascii_start();
    if let Some(after) = rest.strip_prefix(b"}") {
        return Some(after);
    }
    loop {
        let (key, after) = string(rest)?;
        let value = after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        rest = if key == b"data" && value.first() == Some(&b'{') && depth == 0 {
            object(value, message, 1)?
        } else {
            let (text, after) = scalar(value)?;
            keep(message, key, text);
            after
        };
        rest = rest.trim_ascii_start();
        match rest.first()? {
            b',' => rest = rest[1..].trim_ascii_start(),
            b'}' => return Some(&rest[1..]),
            _ => return None,
        }
    }
}

fn keep<'a>(message: &mut Message<'a>, key: &'a [u8], text: &'a [u8]) {
    match key {
        b"e" => message.kind = text,
        b"s" => message.symbol = text,
        b"E" => message.event_ms = digits(text),
        b"T" => message.trade_ms = digits(text),
        b"t" => message.trade_id = digits(text),
        b"u" => message.update_id = digits(text),
        b"p" => message.price = text,
        b"q" => message.quantity = text,
        b"b" => (message.bid, message.has_bid) = (text, true),
        b"B" => message.bid_size = text,
        b"a" => (message.ask, message.has_ask) = (text, true),
        b"A" => message.ask_size = text,
        _ => {}
    }
}

/// A string without its quotes (escapes are kept), and what follows.
fn string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = json.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &text[at..])?;
        if text[at] == b'"' {
            return Some((&text[..at], &text[at + 1..]));
        }
        at = (at + 2 <= text.len()).then_some(at + 2)?;
    }
}

/// Any value as its text (an array or object as a whole), and what follows.
fn scalar(json: &[u8]) -> Option<(&[u8], &[u8])> {
    match json.first()? {
        b'"' => string(json),
        b'[' | b'{' => {
            let (mut rest, mut depth) = (json, 0_i32);
            loop {
                match rest.first()? {
                    b'"' => {
                        rest = string(rest)?.1;
                        continue;
                    }
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => depth -= 1,
                    _ => {}
                }
                rest = &rest[1..];
                if depth == 0 {
                    return Some((&json[..json.len() - rest.len()], rest));
                }
            }
        }
        _ => {
            let end = json.iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
            let text = json[..end].trim_ascii();
            (!text.is_empty()).then_some((text, &json[end..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BinanceClock, parse_binance};

    const LINES: &str = concat!(
        "1000 {\"stream\":\"x@depth\",\"data\":{\"e\":\"depthUpdate\",\"b\":[[\"1\",\"0\"]],\"a\":[]}}\n",
        "1001 {\"stream\":\"x@trade\",\"data\":{\"e\":\"trade\",\"E\":9,\"s\":\"X\",\"t\":7,\"p\":\"2.5\",\"q\":\"1\",\"T\":8}}\n",
        "1002 {\"stream\":\"x@bookTicker\",\"data\":{\"u\":5,\"s\":\"X\",\"b\":\"2\",\"B\":\"1\",\"a\":\"3\",\"A\":\"4\"}}\n",
    );

    #[test]
    fn trades_and_quotes_are_rows_and_depth_is_counted() {
        let parsed = parse_binance(LINES.as_bytes(), BinanceClock::Exchange, true, 1).unwrap();
        assert_eq!((parsed.batch.num_rows(), parsed.skipped, parsed.lines), (2, 1, 3));
    }

    #[test]
    fn every_cut_line_is_an_error_or_whole() {
        for cut in 0..LINES.len() {
            let whole = LINES[..cut].matches('\n').count();
            let text = &LINES.as_bytes()[..cut];
            match parse_binance(text, BinanceClock::Receive, true, 1) {
                Ok(parsed) => assert!(cut == 0 || LINES[..cut].ends_with(['\n', '}']), "{}", parsed.lines),
                Err(error) => assert!(error.to_string().contains(&format!("line {}", whole + 1)), "{error}"),
            }
        }
    }
}
