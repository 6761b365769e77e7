//! Why recording or compilation stopped: outcomes with names, never errors a program sees.

use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::index::NativeId;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::{AbortInfo, AbortReason};

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

/// Why recordings are given up, by number; `%s` is the instruction or the function. `jit.vmdef.traceerr` shows it. The first
/// ones have LuaJIT's numbers (its `lj_traceerr.h`), whether there is such a reason here or not; what only this compiler has follows.
pub const TEXTS: &[&str] = &[
    "error thrown or hook called during recording",
    "trace too short",
    "trace too long",
    "trace too deep",
    "too many snapshots",
    "blacklisted",
    "retry recording",
    "NYI: bytecode %s",
    "leaving loop in root trace",
    "inner loop in root trace",
    "loop unroll limit reached",
    "bad argument type",
    "JIT compilation disabled for function",
    "call unroll limit reached",
    "down-recursion, restarting",
    "NYI: unsupported variant of FastFunc %s",
    "NYI: return to lower frame",
    "store with nil or NaN key",
    "missing metamethod",
    "looping index lookup",
    "NYI: mixed sparse/dense table",
    "symbol not in cache",
    "NYI: unsupported C type conversion",
    "NYI: unsupported C function type",
    "guard would always fail",
    "too many PHIs",
    "persistent type instability",
    "failed to allocate mcode memory",
    "machine code too long",
    "hit mcode limit (retrying)",
    "too many spill slots",
    "inconsistent register allocation",
    "NYI: cannot assemble IR instruction %d",
    "NYI: PHI shuffling too complex",
    "NYI: register coalescing too complex",
    "NYI: %s",
    "NYI: recursion",
    "NYI: metamethod",
    "NYI: table access",
    "trace too big",
    "machine code generation failed",
    "trace is outdated",
    "bad link",
];

impl Abort {
    /// Index of its text in [`TEXTS`].
    const fn number(self) -> u32 {
        match self {
            Abort::ErrorThrown => 0,
            Abort::TraceTooShort => 1,
            Abort::TraceTooLong => 2,
            Abort::TooManySlots => 3,
            Abort::TooManySnapshots => 4,
            Abort::Blacklisted => 5,
            Abort::NyiOp(_) => 7,
            Abort::LeavesLoop => 8,
            Abort::InnerLoop => 9,
            Abort::LoopUnrollLimit => 10,
            Abort::BadCall => 11,
            Abort::JitOffForProto => 12,
            Abort::CallUnrollLimit => 13,
            Abort::NyiNative(_) => 15,
            Abort::ReturnToLowerFrame => 16,
            Abort::GuardAlwaysFails => 24,
            Abort::TooManyPhis => 25,
            Abort::TypeInstability => 26,
            Abort::CodeAreaFull => 27,
            Abort::NyiTypes(_) => 35,
            Abort::Recursion => 36,
            Abort::NyiMetamethod => 37,
            Abort::NyiTableAccess => 38,
            Abort::IrFull => 39,
            Abort::CodeGeneration => 40,
            Abort::Outdated => 41,
            Abort::NoLink => 42,
        }
    }

    /// As listeners are told: the number, and what its text names. A machine knows the names of natives.
    pub fn reason(self, vm: Option<&Vm>) -> AbortReason {
        let info = match self {
            Abort::NyiOp(op) => Some(AbortInfo::Op(op)),
            Abort::NyiNative(id) => {
                Some(AbortInfo::Name(vm.map_or("?", |vm| vm.natives.get(NativeId::new(id)).name)))
            }
            Abort::NyiTypes(what) => Some(AbortInfo::Name(what)),
            _ => None,
        };
        AbortReason { number: self.number(), info }
    }

    /// Text for `-jv`, in LuaJIT's words where it has the same reason.
    pub fn text(self, vm: Option<&Vm>) -> String {
        let r = self.reason(vm);
        let named = match r.info {
            Some(AbortInfo::Op(op)) => op.name(),
            Some(AbortInfo::Name(name)) => name,
            Some(AbortInfo::Func(_)) | None => "",
        };
        TEXTS[r.number as usize].replace("%s", named)
    }

    /// Is it worth recording once more a little later (transient), as opposed to a penalty at once?
    pub const fn is_transient(self) -> bool {
        matches!(self, Abort::InnerLoop | Abort::Outdated | Abort::ErrorThrown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_what_their_texts_name() {
        assert_eq!(Abort::NyiOp(Op::FNEW).text(None), "NYI: bytecode FNEW");
        assert_eq!(Abort::NyiTypes("value").text(None), "NYI: value");
        assert_eq!(Abort::LeavesLoop.text(None), "leaving loop in root trace");
        assert_eq!(Abort::NoLink.number() as usize, TEXTS.len() - 1);
        for why in [Abort::NyiOp(Op::FNEW), Abort::NyiNative(0), Abort::NyiTypes("x"), Abort::Outdated] {
            let r = why.reason(None);
            assert_eq!(TEXTS[r.number as usize].contains("%s"), r.info.is_some(), "{why:?}");
        }
    }
}
