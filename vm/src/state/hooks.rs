//! What the VM publishes for those above it: the JIT installs [`JitHooks`], the ffi installs [`CdataHooks`].

use crate::bytecode::ops::{Mm, Op};
use crate::cell::gc_ref::Gc;
use crate::function::proto::Proto;
use crate::index::TraceNo;
use crate::state::Vm;
use crate::state::native::Raised;
use crate::value::Value;

/// Why a hot counter ran out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HotKind {
    /// A loop back edge.
    Loop,
    /// A function header.
    Call,
}

/// A place in running code, for those who are told of events.
#[derive(Clone, Copy, Debug)]
pub struct CodePlace {
    /// The function, or nil.
    pub func: Value,
    /// Position of the instruction in it; -1 in one that has none.
    pub pos: i32,
}

/// Why a recording was given up.
#[derive(Clone, Copy, Debug)]
pub struct AbortReason {
    /// Index of the text in `jit.vmdef.traceerr`.
    pub number: u32,
    /// What the text names.
    pub info: Option<AbortInfo>,
}

/// What the text of an [`AbortReason`] names.
#[derive(Clone, Copy, Debug)]
pub enum AbortInfo {
    /// An instruction.
    Op(Op),
    /// A library function.
    Func(Value),
    /// A library function whose object is not at hand, or a kind of value.
    Name(&'static str),
}

/// What the compiler has done, for those who listen (`jit.attach`).
#[derive(Clone, Debug)]
pub enum TraceEvent {
    /// It begins to record trace `no`; a side trace has a parent and an exit of it.
    Start {
        /// Trace.
        no: u32,
        /// Its first instruction.
        at: CodePlace,
        /// Parent and exit.
        parent: Option<(u32, u32)>,
    },
    /// It has recorded trace `no`.
    Stop {
        /// Trace.
        no: u32,
        /// The last instruction.
        at: CodePlace,
    },
    /// It gives up.
    Abort {
        /// The trace it would have been.
        no: u32,
        /// The last instruction.
        at: CodePlace,
        /// Why.
        why: AbortReason,
    },
    /// All traces were thrown away.
    Flush,
    /// An instruction was recorded.
    Record {
        /// Trace.
        no: u32,
        /// The instruction.
        at: CodePlace,
        /// Calls above the first frame.
        depth: u32,
    },
    /// A trace was left.
    Exit {
        /// Trace.
        no: u32,
        /// Exit.
        exit: u32,
        /// The integers and addresses that the exit has saved, as they were in registers.
        general: Vec<u64>,
        /// The floating point numbers.
        floats: Vec<f64>,
    },
}

impl TraceEvent {
    /// The function it is about, or nil.
    pub(crate) fn func(&self) -> Value {
        match self {
            TraceEvent::Start { at, .. }
            | TraceEvent::Stop { at, .. }
            | TraceEvent::Abort { at, .. }
            | TraceEvent::Record { at, .. } => at.func,
            TraceEvent::Flush | TraceEvent::Exit { .. } => Value::NIL,
        }
    }

    /// The function that its reason names, or nil.
    pub(crate) fn named(&self) -> Value {
        match self {
            TraceEvent::Abort { why: AbortReason { info: Some(AbortInfo::Func(f)), .. }, .. } => *f,
            _ => Value::NIL,
        }
    }
}

/// Bits of [`Events::listening`].
pub mod eventmask {
    /// Start, stop, abort, flush.
    pub const TRACE: u8 = 1;
    /// Recorded instructions.
    pub const RECORD: u8 = 2;
    /// Exits.
    pub const EXIT: u8 = 4;
}

/// Events on their way to those who listen.
#[derive(Debug, Default)]
pub struct Events {
    /// [`eventmask`] bits of those somebody listens to.
    pub listening: u8,
    /// They are told at the next instruction.
    pub(crate) queue: Vec<TraceEvent>,
    /// Tells one.
    pub(crate) deliver: Option<fn(&mut Vm, TraceEvent)>,
    /// One is being told: nothing is recorded meanwhile.
    pub(crate) telling: bool,
}

/// A limit of a running program that can be spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Back edges and calls (`Vm::set_fuel`).
    Fuel,
    /// Wall-clock time (`Vm::set_deadline`).
    Deadline,
}

/// What the host decides when a limit is spent (`Vm::on_exhausted`).
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// The program goes on. Unless the callback has set a new limit, it is asked again at the next back edge or call.
    GoOn,
    /// The program stops here and the host goes on: the coroutine it resumed comes back as `Resume::Interrupted`, with
    /// all that were resumed inside it. Where nothing can yield (`Vm::can_preempt`) the program goes on.
    Yield,
    /// The limit's own error.
    Raise,
    /// This error.
    RaiseValue(Value),
}

/// What the code generator has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileCosts {
    /// Traces compiled.
    pub traces: u32,
    /// Time it took, microseconds.
    pub us: u64,
    /// Machine code, bytes.
    pub bytes: u64,
}

/// A trace in numbers (`jit.util.traceinfo`).
#[derive(Clone, Copy, Debug)]
pub struct TraceInfo {
    /// IR instructions.
    pub instructions: usize,
    /// IR constants.
    pub constants: usize,
    /// Number of the trace it leads to, 0 for none.
    pub link: u32,
    /// Exits.
    pub exits: usize,
    /// Kind of link: `loop`, `root`, `interpreter` ...
    pub link_kind: &'static str,
}

/// An instruction of a trace as `jit.util.traceir` tells it: in LuaJIT's numbers, references counted from the border
/// between constants (negative) and instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceIns {
    /// Kinds of the operands, two bits each: 0 reference, 1 literal, 3 none.
    pub mode: u32,
    /// Operation in the upper byte; type, and flags for a guard and a loop-carried value, in the lower one.
    pub ot: u32,
    /// First operand.
    pub op1: i32,
    /// Second operand.
    pub op2: i32,
    /// Where the result is, as far as it is known.
    pub place: u32,
}

/// A constant of a trace.
#[derive(Clone, Copy, Debug)]
pub struct TraceConst {
    /// Its value. A pointer is the number of its address.
    pub value: TraceValue,
    /// Its type, in LuaJIT's numbers.
    pub ty: u32,
    /// Place of a key in its table.
    pub slot: Option<u32>,
}

/// Value of a constant of a trace.
#[derive(Clone, Copy, Debug)]
pub enum TraceValue {
    /// A value of the language.
    Lua(Value),
    /// A signed 64-bit integer.
    Int64(i64),
    /// An unsigned one.
    UInt64(u64),
}

/// Machine code of a trace.
#[derive(Clone, Debug)]
pub struct TraceCode {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where they are.
    pub address: usize,
    /// Where its loop begins, in bytes; 0: it has none, or nobody knows.
    pub looping: usize,
}

/// Cold-path hooks of the JIT compiler. The hot path is [`TraceTable`] alone.
pub trait JitHooks {
    /// The hot counter of the instruction at `pc` ran out. The implementor may start recording (by
    /// swapping the dispatch table), install finished traces, or blacklist the instruction.
    fn hot(&mut self, vm: &mut Vm, pc: *const u32, base: *mut Value, kind: HotKind);
    /// Called before every instruction while recording; returns whether recording goes on.
    fn record_step(&mut self, vm: &mut Vm, pc: *const u32, base: *mut Value) -> bool;
    /// Something happened that a recording cannot follow (an error, a yield, a hook).
    fn abort_recording(&mut self, vm: &mut Vm);
    /// A callback begins inside a C call: what follows is no part of the recording under way.
    fn pause_recording(&mut self, vm: &mut Vm);
    /// The callback is over.
    fn resume_recording(&mut self, vm: &mut Vm);
    /// Trace `no` was left through exit `exit`; restores the interpreter's frames from the exit buffer and
    /// returns where to go on.
    fn exit(&mut self, vm: &mut Vm, no: TraceNo, exit: u32) -> ExitState;
    /// Marks what trace `no` references; called when its start prototype is marked.
    fn mark_trace(&mut self, no: TraceNo, mark: &mut dyn FnMut(Value));
    /// Marks what the recorder and the queued jobs reference.
    fn mark_pending(&mut self, mark: &mut dyn FnMut(Value));
    /// A prototype dies: its traces go with it.
    fn proto_freed(&mut self, proto: Gc<Proto>);
    /// Throws away all compiled code (`jit.flush()`).
    fn flush(&mut self, vm: &mut Vm);
    /// Throws away the code of a root trace and its side traces (`jit.flush(n)`).
    fn flush_trace(&mut self, vm: &mut Vm, no: TraceNo);
    /// Throws away the code of traces that begin in these prototypes.
    fn flush_protos(&mut self, vm: &mut Vm, protos: &[Gc<Proto>]);
    /// What had to be left to the interpreter in a prototype is tried again.
    fn allow_proto(&mut self, vm: &mut Vm, proto: Gc<Proto>);
    /// What a trace consists of; `None` when there is none with this number.
    fn trace_info(&self, no: TraceNo) -> Option<TraceInfo>;
    /// Instruction `r` of a trace (from 0, which stands for its base).
    fn trace_ins(&self, no: TraceNo, r: i32) -> Option<TraceIns>;
    /// Constant `r < 0` of a trace.
    fn trace_const(&self, no: TraceNo, r: i32) -> Option<TraceConst>;
    /// Snapshot `n` of a trace: its first instruction, the number of its slots, then its entries (slot in the upper
    /// byte, flags, reference).
    fn trace_snap(&self, no: TraceNo, n: usize) -> Option<Vec<u32>>;
    /// Machine code of a trace; waits for it if it is being made.
    fn trace_code(&mut self, vm: &mut Vm, no: TraceNo) -> Option<TraceCode>;
    /// Address that the code of a trace jumps to at an exit.
    fn trace_exit(&self, no: TraceNo, exit: usize) -> Option<usize>;
    /// What code generation has cost so far.
    fn costs(&self) -> CompileCosts;
}

/// The exit of a trace in whose C call a callback ran: the frames are written back, and the call instruction, which `Vm::pc`
/// is behind, comes next. Nothing may run in between.
pub const EXIT_CALLED_BACK: u32 = u32::MAX - 1;

/// Where the interpreter goes on after a trace exit.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExitState {
    /// Next instruction.
    pub pc: *const u32,
    /// Its frame.
    pub base: *mut Value,
}

/// One compiled trace as machine code sees it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TraceEntry {
    /// Entry point: `extern "C" fn(vm, base) -> exit`, 0 when there is none. The result packs
    /// `trace number << 32 | exit number`.
    pub entry: usize,
    /// The instruction that was replaced by the `J` form.
    pub start_ins: u32,
    /// Reserved.
    pub reserved: u32,
}

/// Compiled traces, indexed by [`TraceNo`]; entry 0 is never used.
#[derive(Default)]
pub struct TraceTable {
    entries: Vec<TraceEntry>,
}

impl TraceTable {
    /// The entries, to index from a handler.
    pub fn as_ptr(&self) -> *const TraceEntry {
        self.entries.as_ptr()
    }

    /// Number of slots in use (entry 0 included).
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no trace was ever entered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets an entry, growing the table.
    pub fn set(&mut self, no: TraceNo, e: TraceEntry) {
        let i = no.index();
        if self.entries.len() <= i {
            self.entries.resize(i + 1, TraceEntry { entry: 0, start_ins: 0, reserved: 0 });
        }
        self.entries[i] = e;
    }

    /// Reads an entry.
    pub fn get(&self, no: TraceNo) -> Option<&TraceEntry> {
        self.entries.get(no.index())
    }
}

/// Objects that `..` joins as if they were strings, before it looks for a metamethod (`string.buffer`).
#[derive(Clone, Copy, Debug)]
pub struct Joined {
    /// Is it one?
    pub is: fn(&Vm, Value) -> bool,
    /// Joins two values, of which one is such an object and the other one too, or a string or number.
    pub concat: Value,
}

/// What a direct call of cdata came to.
#[derive(Clone, Copy, Debug)]
pub enum FastCall {
    /// Nothing happened: the metatable decides.
    No,
    /// Done, no result.
    Nothing,
    /// Done, one result.
    One(Value),
    /// An error, which is pending.
    Raised(Raised),
}

/// `cd(...)` for a C function, without a frame: the object and its arguments, which lie below the top of the stack.
/// Not a method of [`CdataHooks`], because a callback may need those meanwhile.
pub type CdataCall = fn(&mut Vm, Value, &[Value]) -> FastCall;

/// C data with an encoding of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packed {
    /// `int64_t`
    Int64(i64),
    /// `uint64_t`
    Uint64(u64),
    /// `complex`: real and imaginary part.
    Complex(f64, f64),
}

/// What the VM asks about C data; everything else is the base metatable of cdata.
pub trait CdataHooks {
    /// `tonumber(cd)`; `None` when it has no number.
    fn to_number(&self, vm: &Vm, cd: Value) -> Option<f64>;
    /// The 64 bits of an integer cdata for `bit.*` and `%d`-like formats: `(bits, is_unsigned)`.
    fn to_bits64(&self, vm: &Vm, cd: Value) -> Option<(u64, bool)>;
    /// The value of a 64-bit integer or `complex`, the C data that `string.buffer` encodes; `None` for all else.
    fn packed(&self, vm: &Vm, cd: Value) -> Option<Packed>;
    /// The address a pointer, array or struct stands for where C expects `const void *`; `None` for others.
    fn to_pointer(&self, _vm: &Vm, _cd: Value) -> Option<u64> {
        None
    }
    /// Text of `tostring(cd)` without metamethods.
    fn tostring(&self, vm: &Vm, cd: Value) -> Vec<u8>;
    /// Runs the finalizer bookkeeping when a cdata with one dies: the function to call, if any.
    fn finalizer(&mut self, cd: Value) -> Option<Value>;
    /// Marks what the ffi keeps alive (metatypes, callbacks, finalizers of live cdata).
    fn mark_roots(&mut self, mark: &mut dyn FnMut(Value));
    /// Bytes of the type of a bare cdata literal, for `string.buffer` and dumps.
    fn type_name(&self, vm: &Vm, cd: Value) -> Vec<u8>;
    /// `cd[key]`, if no Lua code has to run for it. The interpreter tries this and the next three first; where they
    /// decline, the metatable decides, and finds the error if it is one. The VM's `cdata` is empty meanwhile.
    fn index(&self, vm: &mut Vm, cd: Value, key: Value) -> Option<Value>;
    /// `cd[key] = v`; whether it was done.
    fn newindex(&self, vm: &mut Vm, cd: Value, key: Value, v: Value) -> bool;
    /// Arithmetic and comparison of two values, at least one of them cdata.
    fn arith(&self, vm: &mut Vm, mm: Mm, a: Value, b: Value) -> Option<Value>;
    /// The function of a metatype that `arith` left the operation to; nil to ask the metatable.
    fn handler(&self, vm: &mut Vm, mm: Mm, a: Value, b: Value) -> Value;
    /// The implementor, to reach its own state from its native functions.
    fn as_any(&self) -> &dyn std::any::Any;
}
