//! After marking: dead strings leave the intern table, then blocks and large objects are looked at.

use super::pace;
use crate::heap::{Heap, Phase, arena};

/// Slots of the intern table per step.
const SLOTS: usize = 32 * 1024;
/// Blocks per step.
const BLOCKS: usize = 64;
/// Large objects per step.
const LARGE: usize = 512;
/// Free blocks that keep their memory for the next cycle, at least.
const KEEP_BLOCKS: usize = 16;

/// One step of the sweep; returns whether it was the last.
pub fn step(heap: &mut Heap) -> bool {
    match heap.phase {
        Phase::SweepStrings => {
            if heap.intern_sweep(SLOTS / pace::parts(heap)) {
                heap.intern_shrink();
                heap.phase = Phase::Sweep;
            }
            false
        }
        Phase::Sweep => {
            // Large objects first: destructors may free what is counted.
            if !heap.sweep_large(LARGE) || !heap.sweep_blocks(BLOCKS) {
                return false;
            }
            release(heap, false);
            heap.phase = Phase::Pause;
            true
        }
        Phase::Pause | Phase::Mark => true,
    }
}

/// Gives free blocks back to the system: what the next cycle is unlikely to need, half of it per cycle
/// (taking memory again costs more than keeping it for a while), or all of it.
pub fn release(heap: &mut Heap, all: bool) {
    let growth = heap.acct.used as u64 * heap.acct.pause_percent.saturating_sub(100) as u64 / 100;
    let growth = (growth as usize).max(heap.acct.threshold_min);
    let keep = (growth + growth / 2) / arena::BLOCK + KEEP_BLOCKS;
    let idle = heap.chunks.idle();
    if all {
        heap.chunks.release(keep.min(KEEP_BLOCKS));
    } else if idle > keep {
        heap.chunks.release(keep + (idle - keep) / 2);
    }
}
