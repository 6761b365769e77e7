//! Snapshots: how to rebuild the interpreter's frames when the trace is left.
//!
//! ```text
//!   slot   0        1           2    3    ...   (relative to the trace's base minus 2)
//!          function frame link  r0   r1
//! ```
//! A snapshot lists the slots that differ from memory; all others already hold their value.

use crate::ir::refs::Ref;

/// One slot of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapEntry {
    /// Slot relative to the trace's base minus 2.
    pub slot: u16,
    /// Its value.
    pub value: Ref,
    /// The slot holds a raw word (a frame link), not a boxed value.
    pub raw: bool,
    /// Memory already holds the value: nothing to write, but a side trace inherits it.
    pub norestore: bool,
}

/// A snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snap {
    /// First instruction that belongs to it.
    pub at: Ref,
    /// First entry.
    pub map: u32,
    /// Number of entries.
    pub len: u16,
    /// Slots in use, from slot 0.
    pub nslots: u16,
    /// Distance from the trace's base to the base of the innermost frame, in slots.
    pub base: i16,
    /// Number of values after a multi-value operation, plus one; 0 when there is none.
    pub multres: u16,
    /// Address of the instruction to go on at.
    pub pc: u64,
}
