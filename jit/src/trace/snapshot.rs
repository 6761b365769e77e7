//! Snapshots: how to rebuild the interpreter's frames when the trace is left.
//!
//! ```text
//!   slot   0        1           2    3    ...   (relative to the trace's base minus 2)
//!          function frame link  r0   r1
//! ```
//! A snapshot lists the slots that differ from memory; all others already hold their value.

use crate::ir::buffer::Const;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;

/// Boxes the machine form of a value: a double's bits, an integer, or an address.
pub fn box_bits(ty: Ty, raw: u64) -> u64 {
    let tag = (!(ty.tag_index() as u64)) << 47;
    match ty {
        Ty::Nil => !0,
        Ty::False | Ty::True => tag | ((1 << 47) - 1),
        Ty::Num => raw,
        t if t.is_int32() => (raw as u32 as i32 as f64).to_bits(),
        t if t.is_gc() => tag | raw,
        // Light userdata and raw words are kept whole.
        _ => raw,
    }
}

/// Boxes a constant.
pub fn box_const(k: Const) -> u64 {
    box_bits(k.ty, k.bits)
}

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
