//! Why recording or compilation stopped: outcomes with names, never errors a program sees.

use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::index::NativeId;
use moonlit_vm::state::Vm;

/// Reason of an abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// The instruction cannot be recorded yet.
    NyiOp(Op),
    /// The native function cannot be recorded yet (its id).
    NyiNative(u32),
    /// The combination of operand types cannot be recorded yet.
    NyiTypes(&'static str),
    /// A call of something that is not a function and has no usable `__call`.
    BadCall,
    /// The function runs without a JIT.
    JitOffForProto,
    /// A trace must not start or continue here any more.
    Blacklisted,
    /// The recorded path leaves the loop it started in.
    LeavesLoop,
    /// An inner loop was met that has no trace yet.
    InnerLoop,
    /// A function that returns after so few instructions is not worth a trace.
    TraceTooShort,
    /// Returned below the frame the trace started in.
    ReturnToLowerFrame,
    /// The same loop was unrolled too often.
    LoopUnrollLimit,
    /// Calls nest too deep.
    CallUnrollLimit,
    /// Recursion.
    Recursion,
    /// Too many bytecodes recorded.
    TraceTooLong,
    /// Too many snapshots.
    TooManySnapshots,
    /// More stack slots than a trace holds.
    TooManySlots,
    /// Too many loop-carried values.
    TooManyPhis,
    /// The IR buffer is full.
    IrFull,
    /// A guard would always fail.
    GuardAlwaysFails,
    /// A slot has another type after one round.
    TypeInstability,
    /// The interpreter raised an error.
    ErrorThrown,
    /// The metatable changes how the operation works.
    NyiMetamethod,
    /// A table part would be indexed in a way that cannot be recorded.
    NyiTableAccess,
    /// The code memory is full.
    CodeAreaFull,
    /// The code generator refused the trace.
    CodeGeneration,
    /// The JIT was flushed or switched off meanwhile.
    Outdated,
    /// The link target is gone or does not fit.
    NoLink,
}

impl Abort {
    /// Text for `-jv`, in LuaJIT's words where it has the same reason. A machine knows the names of natives.
    pub fn text(self, vm: Option<&Vm>) -> String {
        match self {
            Abort::NyiOp(op) => format!("NYI: bytecode {}", op.name()),
            Abort::NyiNative(id) => {
                let name = vm.map_or("?", |vm| vm.natives.get(NativeId::new(id)).name);
                format!("NYI: unsupported variant of FastFunc {name}")
            }
            Abort::NyiTypes(what) => format!("NYI: {what}"),
            Abort::TraceTooShort => "trace too short".into(),
            Abort::BadCall => "bad argument type".into(),
            Abort::JitOffForProto => "JIT compilation disabled for function".into(),
            Abort::Blacklisted => "blacklisted".into(),
            Abort::LeavesLoop => "leaving loop in root trace".into(),
            Abort::InnerLoop => "inner loop in root trace".into(),
            Abort::ReturnToLowerFrame => "NYI: return to lower frame".into(),
            Abort::LoopUnrollLimit => "loop unroll limit reached".into(),
            Abort::CallUnrollLimit => "call unroll limit reached".into(),
            Abort::Recursion => "NYI: recursion".into(),
            Abort::TraceTooLong => "trace too long".into(),
            Abort::TooManySnapshots => "too many snapshots".into(),
            Abort::TooManySlots => "trace too deep".into(),
            Abort::TooManyPhis => "too many PHIs".into(),
            Abort::IrFull => "trace too big".into(),
            Abort::GuardAlwaysFails => "guard would always fail".into(),
            Abort::TypeInstability => "persistent type instability".into(),
            Abort::ErrorThrown => "error thrown or hook called during recording".into(),
            Abort::NyiMetamethod => "NYI: metamethod".into(),
            Abort::NyiTableAccess => "NYI: table access".into(),
            Abort::CodeAreaFull => "failed to allocate mcode memory".into(),
            Abort::CodeGeneration => "machine code generation failed".into(),
            Abort::Outdated => "trace is outdated".into(),
            Abort::NoLink => "bad link".into(),
        }
    }

    /// Is it worth recording once more a little later (transient), as opposed to a penalty at once?
    pub const fn is_transient(self) -> bool {
        matches!(self, Abort::InnerLoop | Abort::Outdated | Abort::ErrorThrown)
    }
}
