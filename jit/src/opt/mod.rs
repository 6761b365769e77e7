//! The optimiser: instructions pass through FOLD, forwarding and CSE as they are emitted; whole-trace
//! passes follow. Knows no bytecode and no machine.

pub mod abc;
pub mod cse;
pub mod dce;
pub mod dse;
pub mod fold;
pub mod forward;
pub mod memory;
pub mod narrow;
pub mod sink;
pub mod unroll;

use crate::abort::Abort;
use crate::ir::buffer::IrBuf;
use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::{Class, IrOp};
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use fold::Fold;

/// Which passes run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passes {
    /// Rewriting rules.
    pub fold: bool,
    /// Common subexpressions.
    pub cse: bool,
    /// Load forwarding.
    pub fwd: bool,
    /// Dead stores.
    pub dse: bool,
    /// Loop peeling.
    pub loop_: bool,
    /// Dead code.
    pub dce: bool,
    /// Integer narrowing (asked by the recorder).
    pub narrow: bool,
    /// Array bounds checks (with the recorder, which knows the range of a loop's index).
    pub abc: bool,
    /// Allocation sinking.
    pub sink: bool,
    /// Memory operands within instructions (asked by the lowering).
    pub fuse: bool,
    /// `a * b + c` rounded once (asked by the lowering): on no level, because it changes results.
    pub fma: bool,
}

impl Passes {
    /// Everything that changes no result: level 3.
    pub const ALL: Passes = Passes::level(3);

    /// The passes of an optimisation level, as in LuaJIT: 1 has fold, cse and dce, 2 narrow and loop as well, 3 the rest.
    pub const fn level(n: u32) -> Passes {
        Passes {
            fold: n >= 1,
            cse: n >= 1,
            dce: n >= 1,
            narrow: n >= 2,
            loop_: n >= 2,
            fwd: n >= 3,
            dse: n >= 3,
            abc: n >= 3,
            sink: n >= 3,
            fuse: n >= 3,
            fma: false,
        }
    }
}

/// Result of emitting: the value, or [`Ref::NONE`] for a guard that always holds.
pub type Emitted = Result<Ref, Abort>;

/// Emits an instruction through the pipeline.
pub fn emit(ir: &mut IrBuf, p: Passes, mut i: Ins) -> Emitted {
    // A rule may rewrite the instruction; a cycle among rules would be a bug, so the number of steps is bounded.
    for _ in 0..32 {
        if i.op.is_commutative() && i.a < i.b {
            // Constants, which have the smaller references, go to the right.
            std::mem::swap(&mut i.a, &mut i.b);
        }
        if !p.fold {
            break;
        }
        match fold::apply(ir, &i) {
            Fold::Next => break,
            Fold::Keep(r) => return Ok(r),
            Fold::Drop => return Ok(Ref::NONE),
            Fold::Fail => return Err(Abort::GuardAlwaysFails),
            Fold::Retry(n) => i = n,
            Fold::Nested(inner, make) => {
                let x = emit(ir, p, inner)?;
                i = make(x);
            }
        }
    }
    if ir.len() >= IrBuf::MAX || ir.const_count() >= IrBuf::MAX - 16 {
        return Err(Abort::IrFull);
    }
    match i.op.class() {
        Class::Load if p.fwd => match forward::load(ir, &i) {
            Some(r) => Ok(r),
            None => Ok(ir.push(i)),
        },
        Class::Pure if i.op == IrOp::TOBIT && p.narrow && p.cse && !i.is_guard() => {
            match narrow::tobit(ir, p, i.ra()) {
                Some(r) => r,
                None => Ok(cse::find(ir, &i, Ref::NONE).unwrap_or_else(|| ir.push(i))),
            }
        }
        Class::Pure if i.op == IrOp::ABC && p.abc && abc::is_redundant(ir, &i) => Ok(Ref::NONE),
        Class::Pure | Class::RefTo if p.cse => {
            let limit = forward::ref_limit(ir, &i);
            Ok(cse::find(ir, &i, limit).unwrap_or_else(|| ir.push(i)))
        }
        Class::Load if i.op == IrOp::SLOAD => {
            Ok(cse::find(ir, &i, ir.chain(IrOp::RETF)).unwrap_or_else(|| ir.push(i)))
        }
        Class::Store if p.dse && dse::store(ir, &i) => Ok(Ref::NONE),
        _ => Ok(ir.push(i)),
    }
}

/// Emits without a guard.
pub fn emit2(ir: &mut IrBuf, p: Passes, op: IrOp, ty: Ty, a: Ref, b: Ref) -> Emitted {
    emit(ir, p, Ins::new(op, IrT::of(ty), a, b))
}
