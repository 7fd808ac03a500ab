//! Which reasons reject, which only count, and the bounds.

use crate::reasons::{ALL, DEFAULT_FLAG, DEFAULT_REJECT, PRICE_JUMP, UNSTORABLE};
use crate::schema::{END_TIMESTAMP_NS, ONE};

/// What is done with each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Bits that reject a row, besides those that always do.
    pub reject: u32,
    /// Bits that are counted only.
    pub flag: u32,
    /// Largest change against the symbol's price before, as a fraction in units of 1e-8.
    pub max_jump: Option<i64>,
    /// The present, ns; `None` for the caller's clock.
    pub now_ns: Option<i64>,
    /// How far past the present a timestamp may lie, ns.
    pub max_future_ns: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            reject: DEFAULT_REJECT,
            flag: DEFAULT_FLAG,
            max_jump: None,
            now_ns: None,
            max_future_ns: 60_000_000_000,
        }
    }
}

impl Rules {
    /// Rules with a bound on jumps; a bounded jump is counted unless it rejects.
    pub fn with_max_jump(mut self, max_jump: i64) -> Self {
        self.max_jump = Some(max_jump);
        if self.reject & PRICE_JUMP == 0 {
            self.flag |= PRICE_JUMP;
        }
        self
    }

    /// Bits that are counted.
    pub fn counted(&self) -> u32 {
        self.rejecting() | self.flag
    }

    /// Bits that reject a row, those that always do included.
    pub(super) fn rejecting(&self) -> u32 {
        self.reject | UNSTORABLE
    }

    /// Last instant that is not in the future.
    pub(super) fn latest(&self, clock_ns: i64) -> i64 {
        self.now_ns.unwrap_or(clock_ns).saturating_add(self.max_future_ns).min(END_TIMESTAMP_NS - 1)
    }

    /// Whether a price is further from the one before than allowed.
    pub(super) fn is_jump(&self, before: i128, price: i128) -> bool {
        self.max_jump
            .is_some_and(|bound| (price - before).abs() * i128::from(ONE) > before.abs() * i128::from(bound))
    }
}

/// The bit of a reason's name.
pub fn bit(name: &str) -> Option<u32> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit)
}
