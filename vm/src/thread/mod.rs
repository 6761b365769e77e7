//! Coroutine objects: a Lua stack on the heap with its frames.

pub mod frame;
pub mod stack;

use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind};
use crate::function::upvalue::Upval;
use crate::heap::Heap;
use crate::heap::arena::Group;
use crate::limits::STACK_EXTRA;
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

/// Bit of a thread's `hdr.flags` beside the status: the collector has looked at the stack, and the thread
/// has not run since (every change of the status clears it). Who writes to the stack of a suspended thread
/// otherwise must call [`Thread::written`].
pub const SEEN: u8 = 0x80;

/// A coroutine. While it runs, `base` and `top` are valid only where the interpreter has stored them:
/// at every call out of the handlers.
#[repr(C)]
pub struct Thread {
    /// Header; `flags` is the [`Status`], `aux` the label with which a native that yielded is entered again.
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
    /// Coroutines below this one in the chain of resumes.
    pub depth: u32,
    /// 1 if it was resumed by a function of `coroutine.wrap`, else 0. Handlers read it together with the next field.
    pub wrapped: u32,
    /// Nested native runs on this thread right now (a yield cannot cross them).
    pub nruns: u32,
    /// Instruction after the one that raised the error a dead coroutine ended with (for tracebacks).
    pub saved_pc: *const u32,
    /// Environment for code loaded by this thread.
    pub env: Gc<Table>,
    /// Who resumed this coroutine.
    pub resumer: Option<Gc<Thread>>,
    /// The innermost coroutine of a chain that the host has suspended; kept alive by the chain's frames.
    pub inner: Option<Gc<Thread>>,
    /// Where this coroutine goes on when it is resumed, if it waits in a yield that Lua code called: the return pc of the
    /// current frame. Null in any other state.
    pub go_on: *const u32,
    /// Open upvalues, highest slot first.
    pub open: Option<Gc<Upval>>,
    /// Host data of this coroutine (`thread.exdata`).
    pub exdata: u64,
    /// Second word of host data.
    pub exdata2: u64,
    /// A message handler has been called and nothing was caught since: the next error that meets one becomes
    /// `error in error handling`.
    pub handling: bool,
}

// SAFETY: `Thread` is `repr(C)` and starts with its header of kind `Thread`.
unsafe impl Object for Thread {
    const TAG: tag::Tag = tag::THREAD;
}

/// Frees the stack of a dead coroutine.
///
/// # Safety
/// `o` is a thread that was not released yet.
unsafe fn release(heap: &mut Heap, o: Gc<Header>) {
    // SAFETY: the caller's promise; the stack was allocated with this size.
    unsafe {
        let t = &mut *o.cast::<Thread>().as_ptr();
        if t.size != 0 {
            heap.free_stack(t.stack, t.size as usize);
            t.size = 0;
        }
    }
}

fn stack_layout(slots: usize) -> std::alloc::Layout {
    std::alloc::Layout::array::<Value>(slots).expect("stack sizes are limited")
}

impl Heap {
    /// A coroutine with room for `slots` slots (and [`STACK_EXTRA`] beyond), all nil. `base` and `top`
    /// point to the first slot.
    pub fn new_thread(&mut self, env: Gc<Table>, slots: usize) -> Gc<Thread> {
        self.release[Kind::Thread as usize] = Some(release);
        let size = slots + STACK_EXTRA;
        let stack = self.alloc_stack(size);
        let (p, large) = self.alloc(Group::Drop, std::mem::size_of::<Thread>());
        let hdr = Header { kind: Kind::Thread as u8, gc: large, flags: 0, extra: 0, aux: 0 };
        // SAFETY: the cell has room for the struct.
        unsafe {
            (p as *mut Thread).write(Thread {
                hdr,
                base: stack,
                top: stack,
                stack,
                maxstack: stack.wrapping_add(slots),
                size: size as u32,
                nruns: 0,
                depth: 0,
                saved_pc: std::ptr::null(),
                env,
                resumer: None,
                inner: None,
                go_on: std::ptr::null(),
                wrapped: 0,
                open: None,
                exdata: 0,
                exdata2: 0,
                handling: false,
            })
        };
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// Memory for a stack of `slots` slots, all nil; charged to the heap.
    pub fn alloc_stack(&mut self, slots: usize) -> *mut Value {
        let layout = stack_layout(slots);
        // SAFETY: the size is not zero; all bits set is nil.
        unsafe {
            let p = std::alloc::alloc(layout);
            if p.is_null() {
                std::alloc::handle_alloc_error(layout);
            }
            p.write_bytes(0xff, layout.size());
            self.charge_extern(layout.size());
            p as *mut Value
        }
    }

    /// Frees a stack.
    ///
    /// # Safety
    /// `p` came from [`Heap::alloc_stack`] of this heap with these `slots`; nothing points into it.
    pub unsafe fn free_stack(&mut self, p: *mut Value, slots: usize) {
        let layout = stack_layout(slots);
        self.credit_extern(layout.size());
        // SAFETY: the caller's promise.
        unsafe { std::alloc::dealloc(p as *mut u8, layout) };
    }
}

impl Thread {
    /// The status.
    #[inline(always)]
    pub fn status(&self) -> Status {
        match self.hdr.flags & !SEEN {
            0 => Status::Suspended,
            1 => Status::Running,
            2 => Status::Normal,
            _ => Status::Dead,
        }
    }

    /// The stack of this thread was written to though it does not run.
    #[inline(always)]
    pub fn written(&mut self) {
        self.hdr.flags &= !SEEN;
    }

    /// Sets the status.
    #[inline(always)]
    pub fn set_status(&mut self, s: Status) {
        self.hdr.flags = s as u8;
    }

    /// Slots between the start of the stack and the current base.
    #[inline(always)]
    pub fn base_index(&self) -> usize {
        (self.base as usize - self.stack as usize) / std::mem::size_of::<Value>()
    }

    /// Slots between the start of the stack and the top.
    #[inline(always)]
    pub fn top_index(&self) -> usize {
        (self.top as usize - self.stack as usize) / std::mem::size_of::<Value>()
    }
}
