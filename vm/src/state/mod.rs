//! The machine's state: the heap, the roots, the current coroutine, and the words the interpreter's handlers and
//! machine code share. Runs nothing: `interp` does.

pub mod args;
pub mod frames;
pub mod hooks;
pub mod interrupt;
pub mod metatable;
pub mod native;
pub mod profile;
pub mod raise;
pub mod registry;

use std::sync::atomic::{AtomicPtr, AtomicU32};

use crate::bytecode::ops::Mm;
use crate::cell::gc_ref::Gc;
use crate::heap::Heap;
use crate::string::Str;
use crate::table::Table;
use crate::thread::Thread;
use crate::value::Value;
use hooks::{CdataCall, CdataHooks, JitHooks, TraceTable};
use native::NativeTable;

/// An instruction handler: next instruction, frame, constants, VM, operand A, operand D.
///
/// A function header is entered with `a` its own A field (the frame size) and `d` the number of arguments plus one.
pub type Handler = unsafe extern "C" fn(*const u32, *mut Value, *const Value, *mut Vm, usize, usize) -> usize;

/// A stored tail call of the trampoline (see `interp::dispatch`).
#[cfg(any(miri, feature = "loop"))]
#[derive(Clone, Copy)]
pub(crate) struct Bounce {
    pub(crate) f: Handler,
    pub(crate) pc: *const u32,
    pub(crate) base: *mut Value,
    pub(crate) k: *const Value,
    pub(crate) a: usize,
    pub(crate) d: usize,
}

/// What [`Vm::on_exhausted`] holds. It runs no Lua code.
pub type OnExhausted = Box<dyn FnMut(&mut Vm, hooks::Limit) -> hooks::Verdict>;

/// Entries of a dispatch table.
pub const DISPATCH_SIZE: usize = 128;
/// Entries of the table of hot counters.
pub const HOT_SIZE: usize = 64;

/// Bits of [`Vm::flags`]: what the slow path of a back edge or of a function header has to look at.
pub mod vmflags {
    /// Fuel is counted.
    pub const FUEL: u32 = 1;
    /// A wall-clock deadline is set.
    pub const DEADLINE: u32 = 2;
    /// Ctrl-C or another thread asks for a stop.
    pub const INTERRUPT: u32 = 4;
    /// The profiler asks for a sample.
    pub const PROFILE: u32 = 8;
    /// The host's callback is to be called (`Vm::on_poke`).
    pub const POKE: u32 = 16;
    /// The host's limit of time on CPU is used up. Stays until the host takes it back.
    pub const OVERRUN: u32 = 32;
}

/// The debug hook and what it listens to.
pub struct HookState {
    /// The Lua function, or nil.
    pub func: Value,
    /// [`hookmask`] bits.
    pub mask: u8,
    /// Instructions between count events.
    pub count: u32,
    /// Instructions left until the next one.
    pub left: u32,
    /// A hook is running.
    pub active: bool,
    /// Address of the coroutine it runs on.
    pub thread: u64,
    /// How many kinds of events of the current instruction are through.
    pub stage: u8,
    /// Position of the last line event, to find out whether the line changed.
    pub last_pc: *const u32,
    /// What the running hook was called for (`debug.getinfo` inside a hook).
    pub event_line: i32,
}

/// Bits of [`HookState::mask`].
pub mod hookmask {
    /// Function entry.
    pub const CALL: u8 = 1;
    /// Function return.
    pub const RET: u8 = 2;
    /// New line.
    pub const LINE: u8 = 4;
    /// Every n instructions.
    pub const COUNT: u8 = 8;
}

/// The handler of a back edge, and the one that looks at the flag word.
#[derive(Clone, Copy)]
pub(crate) struct BackEdge(pub(crate) Handler, pub(crate) Handler);

/// One virtual machine. The fields up to `heap` have fixed places: handlers and machine code use them.
#[repr(C)]
pub struct Vm {
    /// The active dispatch table.
    pub(crate) dispatch: [Handler; DISPATCH_SIZE],
    /// Hot counters, indexed by a hash of the instruction's address.
    pub hot: [u16; HOT_SIZE],
    /// The running coroutine.
    pub cur: Gc<Thread>,
    /// Copy of the running coroutine's `maxstack`; zero when a function header has to look at `flags`.
    pub(crate) stack_limit: AtomicPtr<Value>,
    /// [`vmflags`]: looked at by back edges while it is not zero.
    pub flags: AtomicU32,
    /// Base of the frame out of which a coroutine was resumed last: where a yield most likely goes back to. Only a guess,
    /// which is known sooner than what it is compared with: the way there leads through two objects.
    pub(crate) resumed_at: *mut Value,
    /// Number of values left by the last multi-value instruction, plus one.
    pub multres: u32,
    /// Instruction after the current one, stored at every call out of the handlers.
    pub pc: *const u32,
    /// Arguments of the call that a helper has prepared.
    pub(crate) call_nargs: usize,
    /// Arguments of the running native.
    pub(crate) native_nargs: usize,
    /// First result of a native that has just returned.
    pub(crate) ret_from: *mut Value,
    /// How many there are.
    pub(crate) ret_count: usize,
    /// Pending re-entry of a native.
    pub(crate) entry: native::Entry,
    /// The error value being raised.
    pub(crate) err: Value,
    /// A value between two steps of a helper; a root.
    pub(crate) tmp: Value,
    /// The name `__index`, as a key.
    pub(crate) index_name: Value,
    /// A trace is being recorded.
    pub(crate) recording: bool,
    /// Callbacks from C under way. Machine code may wait below them: it must stay.
    pub callbacks: u32,
    /// Exit number of the trace that was left, and what else the JIT wants at a fixed place.
    pub jit_word: u64,
    /// Table of traces as machine code and handlers see it.
    pub traces: TraceTable,
    /// A tail call waiting for the trampoline.
    #[cfg(any(miri, feature = "loop"))]
    pub(crate) bounce: Bounce,
    /// The heap.
    pub heap: Heap,
    /// Native functions.
    pub natives: NativeTable,
    /// The JIT compiler, if there is one.
    pub jit: Option<Box<dyn JitHooks>>,
    /// The ffi, if there is one.
    pub cdata: Option<Box<dyn CdataHooks>>,
    /// What it has told about accesses to C data.
    pub cdata_shapes: crate::cdata::Shapes,
    /// Its direct call of C functions.
    pub cdata_call: Option<CdataCall>,
    /// The registry.
    pub registry: Gc<Table>,
    /// The table of globals.
    pub globals: Gc<Table>,
    /// The main coroutine.
    pub main: Gc<Thread>,
    /// The coroutine finalizers run on; made at the first one.
    pub(crate) finalizer_thread: Option<Gc<Thread>>,
    /// Metatables shared by all values of a type, indexed by [`metatable::type_index`].
    pub base_meta: [Option<Gc<Table>>; 16],
    /// Names of the metamethods.
    pub mm_names: [Gc<Str>; Mm::COUNT],
    /// Behave as LuaJIT built with `LUAJIT_ENABLE_LUA52COMPAT`.
    pub compat52: bool,
    /// The compiler's memory.
    pub(crate) workspace: crate::compile::Workspace,
    /// The native `next`, for loops specialised on it.
    pub next_func: Value,
    /// What else `..` joins.
    pub(crate) joined: Option<hooks::Joined>,
    /// The debug hook.
    pub hook: HookState,
    /// The dispatch table without hooks and recording.
    pub(crate) plain: &'static [Handler; DISPATCH_SIZE],
    /// What an interrupt replaces in the dispatch table.
    pub(crate) back_edges: &'static [BackEdge],
    /// Hot counting is on.
    pub(crate) jit_on: bool,
    /// Hot counting waits although it is on: the process may still fork.
    pub(crate) jit_held: bool,
    /// An error has reached the host's end of a coroutine.
    pub(crate) exit_now: bool,
    /// Finalizers are running.
    pub(crate) in_finalizer: bool,
    /// Nested native runs.
    pub(crate) nruns: u32,
    /// Back edges and calls left.
    pub(crate) fuel: u64,
    /// When the time limit ends.
    pub(crate) deadline: Option<std::time::Instant>,
    /// Polls left until the clock is read again.
    pub(crate) deadline_skip: u32,
    /// The VM's end of [`interrupt::Interrupt`].
    pub(crate) interrupt: Option<interrupt::Owner>,
    /// Asked when a limit is spent. Without it there is an error.
    pub on_exhausted: Option<OnExhausted>,
    /// Called at the next poll after `vmflags::POKE` was set.
    pub on_poke: Option<Box<dyn FnMut(&mut Vm)>>,
    /// What the compiler has to tell.
    pub events: hooks::Events,
    /// What the profiler asks for.
    pub profile: profile::Profile,
    /// The pending error meets no message handler: there is no stack for one.
    pub(crate) no_handler: bool,
    /// Called with the error of a finalizer, instead of a report (`jit.attach`).
    pub(crate) on_finalizer_error: Option<fn(&mut Vm, Value)>,
    /// Called with each function made of a chunk (`jit.attach`).
    pub(crate) on_load: Option<fn(&mut Vm, Gc<crate::function::closure::Func>)>,
    /// Buffer of concatenations.
    pub(crate) cat_buf: Vec<u8>,
    /// Token of the host operation a coroutine chain waits for.
    pub(crate) suspend_token: u64,
    /// Full 64-bit light userdata that do not fit a value's payload: upper halves by segment.
    pub(crate) lightud_segments: Vec<u32>,
    /// Words for `host` and libraries: named slots of arbitrary Rust state.
    pub app: AppData,
}

/// Rust values of libraries and hosts, one per type.
#[derive(Default)]
pub struct AppData {
    map: std::collections::HashMap<
        std::any::TypeId,
        Box<dyn std::any::Any>,
        std::hash::BuildHasherDefault<TypeHasher>,
    >,
}

/// Hasher of type identities, which are hashes already.
#[derive(Default)]
struct TypeHasher(u64);

impl std::hash::Hasher for TypeHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = self.0.rotate_left(8) ^ b as u64;
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 ^= n;
    }
}

impl AppData {
    /// The value of a type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.map.get(&std::any::TypeId::of::<T>())?.downcast_ref()
    }

    /// The value of a type, to change.
    pub fn get_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.map.get_mut(&std::any::TypeId::of::<T>())?.downcast_mut()
    }

    /// Stores the value of its type; returns what was there.
    pub fn set<T: 'static>(&mut self, v: T) -> Option<T> {
        let old = self.map.insert(std::any::TypeId::of::<T>(), Box::new(v))?;
        old.downcast().ok().map(|b| *b)
    }

    /// Takes the value of a type out.
    pub fn take<T: 'static>(&mut self) -> Option<T> {
        self.map.remove(&std::any::TypeId::of::<T>())?.downcast().ok().map(|b| *b)
    }
}

impl Vm {
    /// Base of the current frame.
    #[inline(always)]
    pub fn base(&self) -> *mut Value {
        self.cur.get(&self.heap).base
    }

    /// Sets the base of the current frame.
    #[inline(always)]
    pub(crate) fn set_base(&mut self, base: *mut Value) {
        self.cur.get_mut(&mut self.heap).base = base;
    }

    /// Top of the current frame.
    #[inline(always)]
    pub fn top(&self) -> *mut Value {
        self.cur.get(&self.heap).top
    }

    /// Sets the top of the current frame.
    #[inline(always)]
    pub(crate) fn set_top_ptr(&mut self, top: *mut Value) {
        self.cur.get_mut(&mut self.heap).top = top;
    }

    /// A light userdata for any 64-bit address: the upper part is interned as a segment. `None` when 256
    /// different upper parts are in use already.
    pub fn lightud(&mut self, addr: u64) -> Option<Value> {
        let up = (addr >> LIGHTUD_LOW_BITS) as u32;
        let seg = match self.lightud_segments.iter().position(|&s| s == up) {
            Some(i) => i,
            None if self.lightud_segments.len() < 256 => {
                self.lightud_segments.push(up);
                self.lightud_segments.len() - 1
            }
            None => return None,
        };
        Some(Value::lightud_raw((seg as u64) << LIGHTUD_LOW_BITS | addr & ((1 << LIGHTUD_LOW_BITS) - 1)))
    }

    /// The address in a light userdata.
    pub fn lightud_addr(&self, v: Value) -> u64 {
        let p = v.payload();
        let up = self.lightud_segments.get((p >> LIGHTUD_LOW_BITS) as usize).copied().unwrap_or(0);
        (up as u64) << LIGHTUD_LOW_BITS | p & ((1 << LIGHTUD_LOW_BITS) - 1)
    }
}

/// Address bits in the payload of a light userdata; the other eight number a segment.
const LIGHTUD_LOW_BITS: u32 = 39;
