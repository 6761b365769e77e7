//! Penalties for instructions whose recording was aborted: the next try comes later each time, until the
//! instruction is blacklisted.

use std::collections::HashMap;

/// What to do after an abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Try again after this many counts.
    Retry(u16),
    /// Never again.
    Blacklist,
}

/// Remembered penalties by instruction address.
#[derive(Debug, Default)]
pub struct Penalties {
    slots: HashMap<usize, u32>,
}

impl Penalties {
    /// First penalty, counts.
    pub const MIN: u32 = 72;
    /// Penalty at which an instruction is blacklisted.
    pub const MAX: u32 = 60000;

    /// An abort happened at `pc`; `jitter` in `0..16` keeps nested loops from aborting in step.
    pub fn abort(&mut self, pc: usize, jitter: u32) -> Verdict {
        let v = match self.slots.get(&pc) {
            Some(&v) => v * 2 + jitter,
            None => Penalties::MIN,
        };
        if v > Penalties::MAX {
            self.slots.remove(&pc);
            return Verdict::Blacklist;
        }
        self.slots.insert(pc, v);
        Verdict::Retry(v as u16)
    }

    /// Forgets everything (`jit.flush()`).
    pub fn clear(&mut self) {
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_double_until_blacklisted() {
        let mut p = Penalties::default();
        assert_eq!(p.abort(1, 0), Verdict::Retry(72));
        assert_eq!(p.abort(1, 3), Verdict::Retry(147));
        let mut n = 0;
        while p.abort(1, 1) != Verdict::Blacklist {
            n += 1;
            assert!(n < 20);
        }
        assert_eq!(p.abort(1, 0), Verdict::Retry(72));
    }
}
