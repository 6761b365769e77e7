//! Coroutine objects: a Lua stack on the heap with its frames.

pub mod frame;

use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::function::upvalue::Upval;
use crate::table::Table;
use crate::value::{Object, Value, tag};

/// State of a coroutine, in `hdr.flags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// Created, body on the stack, not started; or suspended in a yield.
    Suspended = 0,
    /// The running one.
    Running = 1,
    /// Has resumed another one.
    Normal = 2,
    /// Finished, or ended by an error.
    Dead = 3,
}

/// A coroutine. While it runs, `base` and `top` are valid only where the interpreter has stored them:
/// at every call out of the handlers.
#[repr(C)]
pub struct Thread {
    /// Header; `flags` is the [`Status`].
    pub hdr: Header,
    /// First slot of the current frame.
    pub base: *mut Value,
    /// First free slot; for a Lua frame, refreshed to `base + framesize` at safepoints.
    pub top: *mut Value,
    /// First slot of the stack.
    pub stack: *mut Value,
    /// Last slot a frame may use (`stack + size - STACK_EXTRA`).
    pub maxstack: *mut Value,
    /// Allocated slots.
    pub size: u32,
    /// Nested native runs on this thread right now (a yield cannot cross them).
    pub nruns: u32,
    /// Environment for code loaded by this thread.
    pub env: Gc<Table>,
    /// Who resumed this coroutine.
    pub resumer: Option<Gc<Thread>>,
    /// Open upvalues, highest slot first.
    pub open: Option<Gc<Upval>>,
    /// Host data of this coroutine (`thread.exdata`).
    pub exdata: u64,
    /// Second word of host data.
    pub exdata2: u64,
}

// SAFETY: `Thread` is `repr(C)` and starts with its header of kind `Thread`.
unsafe impl Object for Thread {
    const TAG: tag::Tag = tag::THREAD;
}
