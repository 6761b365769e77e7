//! The frame format.
//!
//! ```text
//!              base[-4]   base[-3]   base[-2]   base[-1]   base[0] ...
//!   Lua call                         function   return pc  arguments, registers
//!   CONT       cont id    return pc  function   link       (metamethod called by an instruction)
//!   NATIVE     0          label      function   link       (callee of a resumable native)
//!   PCALL                 (label)    function   link       (callee of pcall, or of a native's protected call)
//!   XPCALL                handler    function   link       (callee of xpcall)
//!   VARG                             function   link       (fixed arguments copied above the varargs)
//!   ENTRY                 prev delta function   link       (bottom of a native run)
//!   ENTRY                            function   link       (bottom of a coroutine: stack[0], stack[1])
//! ```
//! `pcall` and `xpcall` of Lua code have a delta of 2 and 3; a native's protected call has at least 4, and then
//! `base[-3]` is its label. `prev delta` is the raw distance to the base below the run.

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
    /// Called by `pcall` (delta 2) or by a native's protected call (then `base[-3]` is a label).
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

/// Delta of the frame called by `pcall`.
pub const PCALL_DELTA: usize = 2;
/// Delta of the frame called by `xpcall`.
pub const XPCALL_DELTA: usize = 3;
/// First base of a coroutine, in slots above the start of its stack.
pub const FIRST_BASE: usize = 2;

/// How an instruction goes on after the metamethod it called: the word in `base[-4]` of a CONT frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Cont {
    /// Drops the results.
    Nop = 1,
    /// The result becomes `R[a]` of the instruction.
    Ra = 2,
    /// Takes the following jump when the result is true.
    CondTrue = 3,
    /// Takes the following jump when the result is false.
    CondFalse = 4,
    /// Goes on concatenating; the rest of the operands is left of the frame.
    Cat = 5,
    /// The message handler of `xpcall` has run: its result is the error value.
    ErrHandler = 6,
    /// A debug hook has run: the instruction is dispatched again; `base[-4]` carries MULTRES above bit 8 and more
    /// above it.
    Hook = 7,
}

impl Cont {
    /// From the word in `base[-4]`.
    #[inline(always)]
    pub const fn from_word(w: u64) -> Option<Cont> {
        Some(match w & 0xff {
            1 => Cont::Nop,
            2 => Cont::Ra,
            3 => Cont::CondTrue,
            4 => Cont::CondFalse,
            5 => Cont::Cat,
            6 => Cont::ErrHandler,
            7 => Cont::Hook,
            _ => return None,
        })
    }
}
