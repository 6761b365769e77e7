//! The frame format.
//!
//! ```text
//!              base[-4]   base[-3]   base[-2]   base[-1]   base[0] ...
//!   Lua call                         function   return pc  arguments, registers
//!   CONT       cont id    return pc  function   link       (metamethod called by an instruction)
//!   NATIVE     0          label      function   link       (callee of a resumable native)
//!   PCALL                            function   link       (callee of pcall)
//!   XPCALL                handler    function   link       (callee of xpcall)
//!   VARG                             function   link       (fixed arguments copied above the varargs)
//!   ENTRY                            function   link       (bottom of a run or of a coroutine)
//! ```
//! A return pc is the address of the instruction after the call; its low two bits are zero, which
//! tells a Lua frame from all others. Any other link is `delta << 3 | type`: `delta` slots lie
//! between this frame's base and the previous one's. For a Lua frame the previous base follows from
//! field A of the call: `prev = base - 2 - A`.

use crate::value::Value;

/// Type of a frame link that is not a return pc (low three bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum FrameType {
    /// Bottom of a run (delta 0) or of a coroutine (delta 1).
    Entry = 1,
    /// Called as a metamethod by an instruction; `base[-4]` says how to go on.
    Cont = 2,
    /// Vararg frame: the real function frame lies `delta` below.
    Varg = 3,
    /// Called by a resumable native, re-entered with the label in `base[-3]`.
    Native = 5,
    /// Called by `pcall` or by a native's protected call (then `base[-3]` is a label, else zero).
    Pcall = 6,
    /// Called by `xpcall`; the handler is in `base[-3]`.
    Xpcall = 7,
}

/// Link of the bottom frame of a native run.
pub const LINK_RUN: u64 = FrameType::Entry as u64;
/// Link of the bottom frame of a coroutine.
pub const LINK_CORO: u64 = 1 << 3 | FrameType::Entry as u64;

/// Is this link a return pc of Lua code?
#[inline(always)]
pub const fn is_lua(link: u64) -> bool {
    link & 3 == 0
}

/// Builds a link.
#[inline(always)]
pub const fn link(delta_slots: usize, ty: FrameType) -> u64 {
    (delta_slots as u64) << 3 | ty as u64
}

/// Distance to the previous base in slots, for links that are not return pcs.
#[inline(always)]
pub const fn delta(link: u64) -> usize {
    (link >> 3) as usize
}

/// Type bits of a link that is not a return pc.
#[inline(always)]
pub const fn type_bits(link: u64) -> u64 {
    link & 7
}

/// Slots a frame of type CONT or NATIVE needs below its base.
pub const CONT_SLOTS: usize = 4;

/// A raw word stored in a stack slot (looks like a tiny number to the collector).
#[inline(always)]
pub const fn raw(word: u64) -> Value {
    Value(word)
}
