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
/// A minor cycle counts a third.
const EARLY_CYCLES: u32 = 3 * 48;

fn is_early(heap: &Heap) -> bool {
    heap.acct.cycles_on_end < EARLY_CYCLES
}

/// In a heap of this size nearly every object that a step looks at is waited for: ...
const WAITED_FOR_FROM: usize = 32 << 20;
/// ... each step is divided into so many.
const PARTS: usize = 3;

/// How many steps do the work of one.
pub fn parts(heap: &Heap) -> usize {
    if heap.acct.live >= WAITED_FOR_FROM { PARTS } else { 1 }
}

/// Bytes the next step waits for, were it not divided.
fn whole_step(heap: &Heap) -> usize {
    let least = if is_early(heap) { 2 * 1024 } else { STEP_MIN };
    (heap.acct.live / 64).clamp(least, STEP_MAX)
}

/// Bytes the next step waits for.
fn step_bytes(heap: &Heap) -> usize {
    whole_step(heap) / parts(heap)
}

/// Most work of one step, in bytes to look at.
const WORK_MAX: u64 = 512 * 1024;

/// Work of one step, in bytes to look at. It grows with every round of looking again at what the program
/// has written to, so that marking catches up with it.
pub fn budget(heap: &Heap) -> isize {
    let parts = parts(heap) as u64;
    let mul = heap.acct.stepmul_percent.max(100) as u64 + 100 * (heap.lists.rounds as u64 / parts);
    let step = whole_step(heap).max(STEP_MIN) as u64;
    ((step * mul / 100).min(WORK_MAX.max(step * 2)) / parts) as isize
}

/// In a heap smaller than this, whose intern table can stay in the fast caches as long as there are few dead strings, ...
const STRINGS_WEIGH_BELOW: usize = 1 << 20;
/// ... a new string counts for so many bytes more. Each one costs a look at a random place of that table, and another
/// one when it is swept: a program that makes nothing but strings runs a third faster when they are collected in time.
const STRING_WEIGHT: u32 = 224;

/// The young generation, as a share of what the pause allows the heap to grow by (30 %) ...
const NURSERY_PERCENT: usize = 30;
/// ... and at least.
const NURSERY_MIN: usize = 256 * 1024;
/// Growth of the old generation, as a share of the same, after which the next cycle is a major one. Together with the
/// young generation it reaches about what the heap would reach without generations.
const OLD_PERCENT: usize = 45;
/// A major cycle comes after so many minor ones at the latest: what died old is not kept for ever.
const MINORS_MAX: u32 = 12;
/// A minor cycle pays when, for what was allocated, it marked less than this share of what a major one would have.
const PAYS_PERCENT: u64 = 80;
/// After so many minor cycles in a row that did not pay ...
const UNPAID_MAX: u32 = 2;
/// ... there are none during so many major ones; twice as many the next time, up to the second number.
const PAUSE_FIRST: u32 = 4;
const PAUSE_MAX: u32 = 64;

/// Bytes that the pause allows a heap to grow by in which `live` bytes live.
fn growth(heap: &Heap, live: usize) -> usize {
    (live as u64 * heap.acct.pause_percent.saturating_sub(100) as u64 / 100) as usize
}

/// A cycle begins: a minor one or a major one?
pub fn cycle_begins(heap: &mut Heap) {
    let stress = heap.zeal != Zeal::Off;
    let full = heap.gens.base + growth(heap, heap.gens.base) / 100 * OLD_PERCENT;
    let live = heap.acct.live;
    let large = live >= heap.acct.generations_from;
    let g = &mut heap.gens;
    let most = if stress { 3 } else { MINORS_MAX };
    g.minor = g.sticky
        && !g.force_major
        && g.minors < most
        && (stress || live < full)
        && (stress || g.unpaid < UNPAID_MAX);
    g.force_major = false;
    g.work = 0;
    if g.minor {
        return;
    }
    if g.unpaid >= UNPAID_MAX {
        g.next_pause = (g.next_pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        g.pause = g.next_pause;
    } else if g.minors == MINORS_MAX {
        g.next_pause = 0;
    }
    g.unpaid = 0;
    g.pause = g.pause.saturating_sub(1);
    g.sticky = stress || g.pause == 0 && large;
}

/// Takes down what the cycle that ended has cost.
fn note_cost(heap: &mut Heap) {
    let allocated = heap.acct.allocated.wrapping_sub(heap.gens.allocated_before) as u64;
    heap.gens.allocated_before = heap.acct.allocated;
    let between_majors = growth(heap, heap.gens.base) as u64;
    let live = heap.acct.live;
    let g = &mut heap.gens;
    if g.minor {
        g.minors += 1;
        let paid = g.work as u128 * between_majors as u128 * 100
            < g.major_work as u128 * allocated as u128 * PAYS_PERCENT as u128;
        g.unpaid = if paid { 0 } else { g.unpaid + 1 };
    } else {
        g.minors = 0;
        g.base = live;
        g.major_work = g.work;
    }
}

/// A cycle has ended: the next one begins when the heap has grown by the pause.
pub fn cycle_ended(heap: &mut Heap) {
    heap.acct.cycles_on_end = heap.acct.cycles_on_end.saturating_add(if heap.gens.minor { 1 } else { 3 });
    let early = is_early(heap);
    let a = &mut heap.acct;
    // What was allocated while sweeping is neither counted alive nor dead.
    a.live = a.live_sum + a.external + heap.intern.slots.len() * 8;
    a.cycles += 1;
    note_cost(heap);
    let least = if early { heap.acct.threshold_min.min(EARLY_MIN) } else { heap.acct.threshold_min };
    let (grows, least) = match growth(heap, heap.acct.live) {
        g if heap.gens.sticky => (g / 100 * NURSERY_PERCENT, least.min(NURSERY_MIN)),
        g => (g, least),
    };
    let a = &mut heap.acct;
    // A pause of less than 100 % still lets the program get on.
    let wait = (a.live + grows).saturating_sub(a.used).max(a.live / 8).max(least);
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
