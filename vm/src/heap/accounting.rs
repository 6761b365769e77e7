//! Bytes in use, the limit, and when the collector is due.

use super::Heap;

/// A request that does not fit under the heap's limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

/// Totals and thresholds, in bytes.
#[repr(C)]
#[derive(Debug)]
pub struct Accounting {
    /// Not zero: a collector step is due at the next safepoint. Machine code polls it.
    pub due: u32,
    /// Collector switched off (`collectgarbage("stop")`); the limit still holds.
    pub stopped: bool,
    /// Charged to this heap: runs handed out, large objects, memory outside the arenas.
    pub used: usize,
    /// ... of which outside the arenas and the list of large objects.
    pub external: usize,
    /// Bytes ever charged; wraps.
    pub allocated: usize,
    /// Bytes that may still be allocated before the next step is due. What the sweep frees does not add
    /// to it: steps follow each other by allocation, not by size.
    pub credit: isize,
    /// Most bytes this heap may use.
    pub limit: usize,
    /// Next cycle begins when the live size grew to this percentage.
    pub pause_percent: u32,
    /// Work per step, as percentage of what was allocated since the last one.
    pub stepmul_percent: u32,
    /// Bytes that the last cycle found alive.
    pub live: usize,
    /// ... as far as the running sweep has counted.
    pub live_sum: usize,
    /// From this live size on, marking fetches objects ahead: it pays on heaps larger than the caches.
    pub fetch_ahead_from: usize,
    /// From this live size on, cycles have generations: what lives in a smaller heap is marked in a moment, and what died
    /// old there is better collected early, for the sake of the caches.
    pub generations_from: usize,
    /// Full cycles so far.
    pub cycles: u64,
    /// Steps never wait for less than this much garbage.
    pub threshold_min: usize,
    /// What a new interned string counts for beyond its size, in bytes (see `gc::pace`).
    pub string_weight: u32,
    /// Cycles since the heap was made or the program last asked for a whole collection.
    pub cycles_on_end: u32,
    /// Stress mode: allocations up to and including the one that fails; 0 when none will (see `zeal`).
    pub(super) fail_in: u64,
    /// It has come to that one, and nobody has told the program yet.
    pub(super) failing: bool,
}

/// A cycle does not begin below this many bytes ...
pub const THRESHOLD_MIN: usize = 1 << 20;
/// ... and the first ones after a collection by hand below this many.
pub const EARLY_MIN: usize = 16 << 10;

impl Default for Accounting {
    fn default() -> Accounting {
        Accounting::new()
    }
}

impl Accounting {
    /// A fresh heap: no limit, LuaJIT's pause and step multiplier.
    pub const fn new() -> Accounting {
        Accounting {
            due: 0,
            stopped: false,
            used: 0,
            external: 0,
            allocated: 0,
            credit: EARLY_MIN as isize,
            limit: usize::MAX,
            pause_percent: 200,
            stepmul_percent: 200,
            live: 0,
            live_sum: 0,
            fetch_ahead_from: 1 << 20,
            generations_from: 4 << 20,
            cycles: 0,
            threshold_min: THRESHOLD_MIN,
            string_weight: 0,
            cycles_on_end: 0,
            fail_in: 0,
            failing: false,
        }
    }

    /// Adds to the bytes in use.
    #[inline(always)]
    pub fn charge(&mut self, bytes: usize) {
        self.used += bytes;
        self.allocated = self.allocated.wrapping_add(bytes);
        self.credit -= bytes as isize;
        if self.credit <= 0 {
            self.due = 1;
        }
        if self.fail_in != 0 {
            self.count_allocation();
        }
    }

    /// Takes from the bytes in use what the sweep has freed.
    #[inline(always)]
    pub fn freed(&mut self, bytes: usize) {
        debug_assert!(self.used >= bytes);
        self.used = self.used.saturating_sub(bytes);
    }

    /// Takes from the bytes in use what was given back at once: as if it had not been allocated.
    #[inline(always)]
    pub fn returned(&mut self, bytes: usize) {
        self.freed(bytes);
        self.credit += bytes as isize;
    }
}

/// From so many bytes on the system is asked first: what it refuses is an error of the program then, while a refusal in
/// the middle of an allocation ends the process.
const ASK_SYSTEM_FROM: usize = 32 << 20;

/// Would the system give `bytes` more?
#[inline]
fn system_has(bytes: usize) -> bool {
    #[cold]
    fn try_it(bytes: usize) -> bool {
        Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
    }
    bytes < ASK_SYSTEM_FROM || try_it(bytes)
}

impl Heap {
    /// Is a collector step due at the next safepoint?
    #[inline(always)]
    pub fn gc_due(&self) -> bool {
        self.acct.due != 0
    }

    /// Bytes in use by live objects and by garbage not yet found.
    pub fn total_bytes(&self) -> usize {
        let unused: usize = self.runs.iter().map(|r| r.left()).sum();
        self.acct.used - unused
    }

    /// May `bytes` more be allocated under the limit? Asked before large requests.
    #[inline]
    pub fn may_alloc(&self, bytes: usize) -> Result<(), OutOfMemory> {
        let a = &self.acct;
        if bytes < a.limit && a.used <= a.limit - bytes && !a.next_fails() && system_has(bytes) {
            Ok(())
        } else {
            Err(OutOfMemory)
        }
    }

    /// Is more in use than the limit allows?
    #[inline]
    pub fn over_limit(&self) -> bool {
        self.acct.used > self.acct.limit || self.acct.failing
    }

    /// Sets the limit in bytes; `usize::MAX` is none.
    pub fn set_limit(&mut self, bytes: usize) {
        self.acct.limit = bytes;
        let room = bytes.saturating_sub(self.acct.used).min(isize::MAX as usize) as isize;
        self.acct.credit = self.acct.credit.min(room);
        if self.acct.credit <= 0 {
            self.acct.due = 1;
        }
    }

    /// Charges memory that an object holds outside the heap (a buffer of a userdata, code of a
    /// prototype); [`Heap::credit_extern`] takes it back.
    pub fn charge_extern(&mut self, bytes: usize) {
        self.acct.external += bytes;
        self.acct.charge(bytes);
    }

    /// Takes back what [`Heap::charge_extern`] charged.
    pub fn credit_extern(&mut self, bytes: usize) {
        self.acct.external = self.acct.external.saturating_sub(bytes);
        self.acct.freed(bytes);
    }
}
