//! Which timeframes are fed by ticks and which roll up from a finer one.

use crate::error::{Error, Result};
use crate::timeframe::Timeframe;

/// The requested timeframes, finest first, each with the level it rolls up from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    levels: Vec<Level>,
}

/// One requested timeframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The bar length.
    pub timeframe: Timeframe,
    /// Index of the coarsest finer level that divides this one; none where ticks feed it.
    pub parent: Option<usize>,
    /// Index of the level fed by ticks that this one comes from: itself, or its finest ancestor.
    pub root: usize,
}

impl Plan {
    /// Order and link timeframes; repeated ones count once.
    ///
    /// # Errors
    /// [`Error::Argument`] without any timeframe.
    pub fn new(timeframes: &[Timeframe]) -> Result<Self> {
        let mut sorted = timeframes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.is_empty() {
            return Err(Error::Argument("timeframes is empty; name at least one, such as 1m".into()));
        }
        let parent = |at: usize| (0..at).rev().find(|finer| sorted[at].is_multiple_of(sorted[*finer]));
        let mut levels: Vec<Level> = Vec::with_capacity(sorted.len());
        for (at, timeframe) in sorted.iter().enumerate() {
            let parent = parent(at);
            let root = parent.map_or(at, |parent| levels[parent].root);
            levels.push(Level { timeframe: *timeframe, parent, root });
        }
        Ok(Self { levels })
    }

    /// The levels, finest first.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_hangs_on_its_coarsest_divisor() {
        let frames: Vec<Timeframe> =
            ["20s", "1m", "15s", "30s", "15s"].iter().map(|t| t.parse().unwrap()).collect();
        let plan = Plan::new(&frames).unwrap();
        let shown: Vec<_> = plan.levels().iter().map(|l| (l.timeframe.to_string(), l.parent)).collect();
        let want = [("15s", None), ("20s", None), ("30s", Some(0)), ("1m", Some(2))];
        assert_eq!(shown, want.map(|(t, p)| (t.to_string(), p)));
        assert_eq!(plan.levels().iter().map(|l| l.root).collect::<Vec<_>>(), [0, 1, 0, 0]);
        assert!(Plan::new(&[]).is_err());
    }
}
