//! The door for the JIT and the ffi: values, objects, frames, the VM's own words. Nobody else may come in here.
//!
//! # Contract
//! - A handle ([`Gc`]) is good until the next safepoint unless its object is reachable from a root: a stack slot below
//!   `top`, the registry, an object that is itself reachable.
//! - The collector runs at safepoints only: [`Vm::safepoint`], the return of a native, allocating instructions.
//! - A store of a reference into an object whose header has the black bit runs `Heap::barrier_back`.
//! - Stacks move whenever a function may be called or slots are asked for: base pointers are read again afterwards.
//! - While machine code runs, `vm.cur`'s base is that of the frame the trace was entered with; exits restore the
//!   frames before anything else looks at them.

pub use crate::bytecode::instr::{BCBIAS_J, Instr};
pub use crate::bytecode::ops::{Mm, Op};
pub use crate::cdata::Cdata;
pub use crate::cell::gc_ref::Gc;
pub use crate::cell::header::{Header, Kind};
pub use crate::function::closure::{Func, LuaFunc, NativeFunc};
pub use crate::function::proto::Proto;
pub use crate::function::upvalue::Upval;
pub use crate::heap::Heap;
pub use crate::interp::arith::join_from_trace;
pub use crate::interp::call::call_from_trace;
pub use crate::layout;
pub use crate::state::Vm;
pub use crate::state::hooks::{CdataHooks, ExitState, HotKind, JitHooks, TraceEntry, TraceTable};
pub use crate::string::Str;
pub use crate::table::{Node, Table};
pub use crate::thread::{Status, Thread, frame};
pub use crate::userdata::Userdata;
pub use crate::value::{Value, tag};
