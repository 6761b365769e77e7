//! Stress mode: freed cells are filled with a pattern, so that a stale handle shows.

use super::arena::{Block, FIRST};
use crate::cell::gc_ref::Gc;

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
