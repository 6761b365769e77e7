//! Stress modes: the collector works at every safepoint, and freed cells are filled with a pattern, so that
//! a stale handle shows; or a chosen allocation fails.

use super::Heap;
use super::accounting::Accounting;
use super::alloc::Run;
use super::arena::{Block, FIRST};
use crate::cell::gc_ref::Gc;

/// How hard the collector is made to work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Zeal {
    /// As usual.
    #[default]
    Off = 0,
    /// A full collection at every safepoint, at fewer ones when much is alive.
    Collect = 1,
    /// A very small step at every safepoint, and the heap verifier every now and then: finds stores
    /// without a barrier.
    Steps = 2,
}

impl Zeal {
    /// From a level: 0 off, 1 [`Zeal::Collect`], 2 and more [`Zeal::Steps`].
    pub fn from_level(n: u32) -> Zeal {
        match n {
            0 => Zeal::Off,
            1 => Zeal::Collect,
            _ => Zeal::Steps,
        }
    }
}

impl Heap {
    /// Switches a stress mode on or off.
    pub fn set_zeal(&mut self, zeal: Zeal) {
        self.zeal = zeal;
        self.acct.due = 1;
    }

    /// The `n`-th allocation from now on fails, 1 being the next one: where there is a question before it, that is
    /// answered with no; else the program is told at the next safepoint. 0: none does. An error in between, or the
    /// telling, ends it.
    pub fn fail_allocation(&mut self, n: u64) {
        self.acct.fail_in = n;
        self.acct.failing = false;
        // Every cell is an allocation of its own from now on: nothing is left of the runs.
        self.runs.fill_with(|| Run::EMPTY);
    }

    /// Allocations left until the one that fails; 0 when it has failed or none was chosen.
    pub fn allocations_left(&self) -> u64 {
        self.acct.fail_in
    }

    /// The program is told that there is no memory.
    pub(crate) fn failure_told(&mut self) {
        (self.acct.fail_in, self.acct.failing) = (0, false);
    }

    /// The stress mode.
    pub fn zeal(&self) -> Zeal {
        self.zeal
    }
}

impl Accounting {
    /// Are allocations counted?
    #[inline(always)]
    pub(super) fn counting(&self) -> bool {
        self.fail_in != 0
    }

    /// Is the allocation about to be made the one that fails?
    #[inline(always)]
    pub(super) fn next_fails(&self) -> bool {
        self.fail_in == 1 || self.failing
    }

    /// Counts one. It cannot be refused any more: the program hears of it at its next safepoint.
    #[cold]
    pub(super) fn count_allocation(&mut self) {
        self.fail_in -= 1;
        if self.fail_in == 0 {
            (self.failing, self.due) = (true, 1);
        }
    }
}

/// Byte that fills freed cells. As a value it reads as an odd number; as an address it is not mapped.
pub const POISON: u8 = 0x5a;

/// Fills the dead cells of a block. The kind byte becomes zero, which no object has.
pub fn poison_dead(b: Gc<Block>, set: usize) {
    // SAFETY: the block is mapped, and cells that are not marked belong to nobody.
    unsafe {
        let (cell, end) = ((*b.as_ptr()).cell as usize, (*b.as_ptr()).end as usize);
        let mut off = FIRST;
        while off < end {
            if !(*b.as_ptr()).is_set(set, off) {
                let p = (b.as_ptr() as *mut u8).add(off);
                p.write_bytes(POISON, cell);
                p.write(0);
            }
            off += cell;
        }
    }
}
