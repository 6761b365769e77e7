//! Penalties for instructions whose recording was aborted: the next try comes later each time, until the
//! instruction is blacklisted.

use std::collections::{HashMap, HashSet};

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
    /// Loops that were left, or met another loop, when they were recorded last.
    left: HashSet<usize>,
}

impl Penalties {
    /// First penalty, counts.
    pub const MIN: u32 = 72;
    /// Penalty at which an instruction is blacklisted.
    pub const MAX: u32 = 60000;
    /// Calls of a function that may all be too short.
    pub const SHORT_MAX: u32 = 48;

    /// Penalty from which on a loop that is left has few rounds, and not by chance: six times, one after the other.
    const SHORT_FROM: u32 = 32 * Penalties::MIN;

    /// Instructions that are remembered: code that is loaded, fails and goes away leaves its addresses here.
    const MOST: usize = 4096;

    /// An abort happened at `pc`; `jitter` in `0..16` keeps nested loops from aborting in step.
    pub fn abort(&mut self, pc: usize, jitter: u32) -> Verdict {
        self.left.remove(&pc);
        self.doubled(pc, jitter)
    }

    /// The loop at `pc` met another one that has no trace yet.
    pub fn inner_loop(&mut self, pc: usize, jitter: u32) -> Verdict {
        self.left.insert(pc);
        self.doubled(pc, jitter)
    }

    /// The loop at `pc` was left when a round was recorded. There may be more of them later, so it is never given up.
    pub fn left(&mut self, pc: usize, jitter: u32) -> Verdict {
        self.left.insert(pc);
        match self.doubled(pc, jitter) {
            Verdict::Blacklist => {
                self.set(pc, Penalties::MAX);
                Verdict::Retry(Penalties::MAX as u16)
            }
            retry => retry,
        }
    }

    /// Does the loop at `pc` have so few rounds that recording it has failed again and again?
    pub fn is_short(&self, pc: usize) -> bool {
        self.left.contains(&pc) && self.slots.get(&pc).is_some_and(|v| *v >= Penalties::SHORT_FROM)
    }

    /// Are there loops of few rounds? All of them.
    pub fn short_loops(&self) -> Vec<usize> {
        self.left.iter().copied().filter(|pc| self.is_short(*pc)).collect()
    }

    /// The penalty of an instruction becomes `v`.
    fn set(&mut self, pc: usize, v: u32) {
        if self.slots.len() >= Penalties::MOST {
            self.clear();
        }
        self.slots.insert(pc, v);
    }

    fn doubled(&mut self, pc: usize, jitter: u32) -> Verdict {
        let v = match self.slots.get(&pc) {
            Some(&v) => v * 2 + jitter,
            None => Penalties::MIN,
        };
        if v > Penalties::MAX {
            self.slots.remove(&pc);
            return Verdict::Blacklist;
        }
        self.set(pc, v);
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
        self.set(pc, v);
        Verdict::Retry(3 + jitter as u16)
    }

    /// Forgets one instruction; whether there was something.
    pub fn forget(&mut self, pc: usize) -> bool {
        self.left.remove(&pc);
        self.slots.remove(&pc).is_some()
    }

    /// Forgets everything (`jit.flush()`).
    pub fn clear(&mut self) {
        self.slots.clear();
        self.left.clear();
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
    fn a_loop_that_is_left_is_short_and_never_given_up() {
        let mut p = Penalties::default();
        assert_eq!(p.left(1, 0), Verdict::Retry(72));
        assert!(!p.is_short(1));
        assert_eq!(p.left(1, 0), Verdict::Retry(144));
        for _ in 0..3 {
            assert_ne!(p.left(1, 0), Verdict::Blacklist);
            assert!(!p.is_short(1));
        }
        p.left(1, 0);
        assert!(p.is_short(1));
        assert_eq!(p.short_loops(), [1]);
        for _ in 0..20 {
            assert_ne!(p.left(1, 15), Verdict::Blacklist);
        }
        assert_eq!(p.left(1, 0), Verdict::Retry(Penalties::MAX as u16));
        assert_eq!(p.abort(1, 0), Verdict::Blacklist);
        assert!(!p.is_short(1));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut p = Penalties::default();
        for pc in 0..3 * Penalties::MOST {
            p.left(4 * pc, 0);
            assert!(p.slots.len() <= Penalties::MOST && p.left.len() <= Penalties::MOST + 1);
        }
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
