//! Which reasons reject, which only count, and the bounds.

use crate::reasons::{ALL, DEFAULT_FLAG, DEFAULT_REJECT, PRICE_JUMP};
use crate::schema::ONE;

/// What is done with each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Bits that reject a row.
    pub reject: u32,
    /// Bits that are counted only.
    pub flag: u32,
    /// Largest change against the symbol's price before, as a fraction in units of 1e-8.
    pub max_jump: Option<i64>,
    /// Last instant that is not in the future, ns.
    pub latest_ns: Option<i64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { reject: DEFAULT_REJECT, flag: DEFAULT_FLAG, max_jump: None, latest_ns: None }
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
        self.reject | self.flag
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
