//! Narrowing of sums that are cut to 32 bits, as hash functions make them: `TOBIT` of a tree of numbers' `ADD` and `SUB` becomes
//! 32-bit arithmetic on the integers at its leaves.
//!
//! That is the same only while the sum is exact: all leaves are whole numbers, and no partial sum reaches 2^51. So each value has
//! a bound, and a leaf that is no integer on the trace (at most one for a tree) gets a check for both, a guarded `TOBIT`.

use super::{Emitted, Passes, emit};
use crate::ir::buffer::IrBuf;
use crate::ir::eval;
use crate::ir::ins::{Ins, IrT, conv};
use crate::ir::ops::{Class, IrOp};
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;

/// Magnitude that sums stay below: there the cut is exact.
const LIMIT: f64 = (1u64 << 51) as f64;
/// Deepest tree.
const DEPTH_MAX: usize = 16;

/// What a tree is made of.
#[derive(Default)]
struct Leaves {
    /// Integers.
    ints: u32,
    /// Numbers that need a check.
    checked: u32,
}

/// The integer `r` for an operation that wants 32 bits: sums with a check against overflow do without it. What is added up is far
/// below 2^51 for trees of this depth, so the cut of the exact sum is the sum modulo 2^32.
pub fn wrapped(ir: &mut IrBuf, p: Passes, r: Ref) -> Emitted {
    wrap(ir, p, r, 0)
}

fn wrap(ir: &mut IrBuf, p: Passes, r: Ref, depth: usize) -> Emitted {
    if !p.narrow || !r.is_ins() || depth > DEPTH_MAX {
        return Ok(r);
    }
    let i = *ir.ins(r);
    let op = match i.op {
        IrOp::ADDOV => IrOp::ADD,
        IrOp::SUBOV => IrOp::SUB,
        _ => return Ok(r),
    };
    if i.t.is_phi() || i.ty() != Ty::Int {
        return Ok(r);
    }
    let (a, b) = (wrap(ir, p, i.ra(), depth + 1)?, wrap(ir, p, i.rb(), depth + 1)?);
    emit(ir, p, Ins::new(op, IrT::of(Ty::Int), a, b))
}

/// The 32-bit form of the number `r`, a sum; `None` if it has none.
pub fn tobit(ir: &mut IrBuf, p: Passes, r: Ref) -> Option<Emitted> {
    if !r.is_ins() || !is_sum(ir.ins(r)) {
        return None;
    }
    let mut leaves = Leaves::default();
    let bound = bound(ir, r, 0, &mut leaves)?;
    (bound < LIMIT && leaves.ints > 0 && leaves.checked <= 1).then(|| build(ir, p, r))
}

fn is_sum(i: &Ins) -> bool {
    matches!(i.op, IrOp::ADD | IrOp::SUB) && i.ty() == Ty::Num
}

/// The integer that a number was made of.
fn integer(i: &Ins) -> Option<Ref> {
    (i.op == IrOp::CONV && i.ty() == Ty::Num && conv::src(i.b).is_int32()).then(|| i.ra())
}

/// The largest magnitude of `r`; `None` if it cannot be narrowed.
fn bound(ir: &IrBuf, r: Ref, depth: usize, leaves: &mut Leaves) -> Option<f64> {
    if r.is_const() {
        let k = ir.as_knum(r)?;
        return (k == k.trunc() && k.abs() < LIMIT).then_some(k.abs());
    }
    let i = ir.ins(r);
    // In a loop this is what the round before has left: its integer form would have to be carried as well.
    if i.t.is_phi() || depth > DEPTH_MAX {
        return None;
    }
    if let Some((_, bound)) = ir.narrowed(r) {
        leaves.ints += 1;
        return Some(bound);
    }
    if is_sum(i) {
        return Some(bound(ir, i.ra(), depth + 1, leaves)? + bound(ir, i.rb(), depth + 1, leaves)?);
    }
    if let Some(x) = integer(i) {
        leaves.ints += u32::from(!x.is_const());
        return Some((1u64 << 32) as f64);
    }
    // What comes from memory may well be whole; the result of a division is asked for its rounding.
    leaves.checked += 1;
    (i.op.class() == Class::Load || i.op == IrOp::PVAL).then_some(conv::WHOLE_MAX as f64)
}

fn build(ir: &mut IrBuf, p: Passes, r: Ref) -> Emitted {
    if r.is_const() {
        let k = ir.as_knum(r).unwrap_or(0.0);
        return Ok(ir.kint(eval::tobit(k)));
    }
    if let Some((n, _)) = ir.narrowed(r) {
        return Ok(n);
    }
    let i = *ir.ins(r);
    if !is_sum(&i) {
        return match integer(&i) {
            Some(x) => Ok(x),
            None => emit(ir, p, Ins::new(IrOp::TOBIT, IrT::guard(Ty::Int), r, Ref::NONE)),
        };
    }
    let (a, b) = (build(ir, p, i.ra())?, build(ir, p, i.rb())?);
    // The parts are known by now.
    let bound = bound(ir, r, 0, &mut Leaves::default()).unwrap_or(LIMIT);
    let n = emit(ir, p, Ins::new(i.op, IrT::of(Ty::Int), a, b))?;
    ir.set_narrowed(r, n, bound);
    Ok(n)
}
