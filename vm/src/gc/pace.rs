//! When the collector works and how much.

use crate::heap::Heap;
use crate::heap::accounting::EARLY_MIN;
use crate::heap::zeal::Zeal;

/// Bytes allocated between two steps of a running cycle, at least.
const STEP_MIN: usize = 64 * 1024;
/// ... and at most: it bounds the work of one step, and with it the pause.
const STEP_MAX: usize = 96 * 1024;

/// So many cycles after its start, and after each collection by hand, a small heap is collected in small steps, so
/// that it stays small. A program that has made so much garbage makes more: it gets fewer and larger steps.
const EARLY_CYCLES: u32 = 48;

fn is_early(heap: &Heap) -> bool {
    heap.acct.cycles_on_end < EARLY_CYCLES
}

/// Bytes the next step waits for.
fn step_bytes(heap: &Heap) -> usize {
    let least = if is_early(heap) { 2 * 1024 } else { STEP_MIN };
    (heap.acct.live / 64).clamp(least, STEP_MAX)
}

/// Most work of one step, in bytes to look at.
const WORK_MAX: u64 = 512 * 1024;

/// Work of one step, in bytes to look at. It grows with every round of looking again at what the program
/// has written to, so that marking catches up with it.
pub fn budget(heap: &Heap) -> isize {
    let mul = heap.acct.stepmul_percent.max(100) as u64 + 100 * heap.lists.rounds as u64;
    let step = step_bytes(heap).max(STEP_MIN) as u64;
    (step * mul / 100).min(WORK_MAX.max(step * 2)) as isize
}

/// In a heap smaller than this, whose intern table can stay in the fast caches as long as there are few dead strings, ...
const STRINGS_WEIGH_BELOW: usize = 1 << 20;
/// ... a new string counts for so many bytes more. Each one costs a look at a random place of that table, and another
/// one when it is swept: a program that makes nothing but strings runs a third faster when they are collected in time.
const STRING_WEIGHT: u32 = 224;

/// A cycle has ended: the next one begins when the heap has grown by the pause.
pub fn cycle_ended(heap: &mut Heap) {
    heap.acct.cycles_on_end = heap.acct.cycles_on_end.saturating_add(1);
    let early = is_early(heap);
    let a = &mut heap.acct;
    // What was allocated while sweeping is neither counted alive nor dead.
    a.live = a.live_sum + a.external + heap.intern.slots.len() * 8;
    a.cycles += 1;
    let grown = (a.live as u64 * a.pause_percent as u64 / 100) as usize;
    let least = if early { a.threshold_min.min(EARLY_MIN) } else { a.threshold_min };
    let wait = grown.saturating_sub(a.used).max(a.live / 8).max(least);
    a.string_weight = if !early && a.live < STRINGS_WEIGH_BELOW { STRING_WEIGHT } else { 0 };
    set_credit(heap, wait);
}

/// A step has ended within a cycle. What was allocated beyond its share (one large object) is made up
/// for by steps at the next safepoints.
pub fn step_ended(heap: &mut Heap) {
    let owed = heap.acct.credit.min(0);
    let wait = step_bytes(heap);
    set_credit(heap, wait);
    if !heap.acct.stopped {
        heap.acct.credit += owed;
        heap.acct.due |= (heap.acct.credit <= 0) as u32;
    }
}

/// Sets after how many bytes the next step is due. Near the limit the garbage is not allowed to grow up
/// to it.
pub fn set_credit(heap: &mut Heap, bytes: usize) {
    let urgent = heap.zeal != Zeal::Off || heap.over_limit();
    let a = &mut heap.acct;
    let room = a.limit.saturating_sub(a.used);
    let mut wait = bytes.min(isize::MAX as usize);
    if wait > room / 2 {
        // Half of what is left is garbage's; at the limit itself every 64 KiB is worth an attempt.
        wait = wait.min((room / 2).max(64 * 1024));
    }
    if a.stopped {
        wait = room.max(64 * 1024).min(isize::MAX as usize);
    }
    a.credit = wait as isize;
    a.due = urgent as u32;
}

/// `collectgarbage("stop")` and `"restart"`.
pub fn set_stopped(heap: &mut Heap, stopped: bool) {
    heap.acct.stopped = stopped;
    set_credit(heap, 0);
    heap.acct.due |= !stopped as u32;
}
