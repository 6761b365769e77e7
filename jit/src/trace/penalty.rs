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
    /// Calls of a function that may all be too short.
    pub const SHORT_MAX: u32 = 48;

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

    /// A function at `pc` has returned at once: another call of it may take the way that is worth a trace, so the next try
    /// comes soon.
    pub fn too_short(&mut self, pc: usize, jitter: u32) -> Verdict {
        let v = self.slots.get(&pc).copied().unwrap_or(0) + Penalties::MAX / Penalties::SHORT_MAX;
        if v > Penalties::MAX {
            self.slots.remove(&pc);
            return Verdict::Blacklist;
        }
        self.slots.insert(pc, v);
        Verdict::Retry(3 + jitter as u16)
    }

    /// Forgets one instruction; whether there was something.
    pub fn forget(&mut self, pc: usize) -> bool {
        self.slots.remove(&pc).is_some()
    }

    /// Forgets everything (`jit.flush()`).
    pub fn clear(&mut self) {
        self.slots.clear();
    }
}

/// Source of the jitter: 256 bits that a program can read and set (OpenResty's `jit.prngstate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prng(pub [u64; 4]);

impl Default for Prng {
    fn default() -> Prng {
        Prng([0x9e37_79b9, 0, 0, 0])
    }
}

impl Prng {
    /// The next number: a counter, mixed with the rest of the state, which no state makes stand still.
    pub fn draw(&mut self) -> u64 {
        let [n, a, b, c] = self.0;
        self.0[0] = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0[0] ^ a.rotate_left(16) ^ b.rotate_left(32) ^ c.rotate_left(48);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^ (x >> 29)
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

    #[test]
    fn short_functions_are_tried_again_soon() {
        let mut p = Penalties::default();
        for n in 0..Penalties::SHORT_MAX {
            assert_eq!(p.too_short(1, n % 16), Verdict::Retry(3 + (n % 16) as u16));
        }
        assert_eq!(p.too_short(1, 0), Verdict::Blacklist);
    }

    #[test]
    fn a_state_repeats_its_numbers_and_none_stands_still() {
        let draw = |state| {
            let mut p = Prng(state);
            (0..8).map(|_| p.draw() & 15).collect::<Vec<_>>()
        };
        assert_eq!(draw([1, 2, 3, 4]), draw([1, 2, 3, 4]));
        assert_ne!(draw([1, 2, 3, 4]), draw([1, 2, 3, 5]));
        let zero = draw([0; 4]);
        assert!(zero.iter().any(|n| *n != zero[0]));
    }
}
