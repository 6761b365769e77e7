//! After marking: dead strings leave the intern table, then blocks and large objects are looked at.

use crate::heap::{Heap, Phase};

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
            if heap.intern_sweep(SLOTS) {
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
            let keep = (heap.acct.used / crate::heap::arena::BLOCK / 2).max(KEEP_BLOCKS);
            heap.chunks.release(keep);
            heap.phase = Phase::Pause;
            true
        }
        Phase::Pause | Phase::Mark => true,
    }
}
