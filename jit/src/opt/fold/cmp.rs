//! Rules of comparisons.

use super::{Fold, inner, rules};
use crate::ir::eval;
use crate::ir::ins::{Ins, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;

fn known(holds: bool) -> Fold {
    if holds { Fold::Drop } else { Fold::Fail }
}

rules! {
    /// Comparison of constants.
    cmp_num_const: LT | GE | LE | GT | ULT | UGE | ULE | UGT | EQ | NE => |ir, i| {
        let (a, b) = (ir.as_knum(i.ra())?, ir.as_knum(i.rb())?);
        Some(known(eval::num_cmp(i.op, a, b)))
    };
    /// Comparison of integer constants.
    cmp_int_const: LT | GE | LE | GT | ULT | UGE | ULE | UGT | EQ | NE => |ir, i| {
        let (a, b) = (ir.as_kint(i.ra())?, ir.as_kint(i.rb())?);
        Some(known(eval::int_cmp(i.op, a, b)))
    };
    /// Array bound check on constants.
    cmp_abc_const: ABC => |ir, i| {
        let (a, b) = (ir.as_kint(i.ra())?, ir.as_kint(i.rb())?);
        Some(known((b as u32) < a as u32))
    };
    /// Identity of objects: constants are compared by address. Two long strings with different addresses may
    /// be equal, so strings are only known to be equal, never to differ; the recorder compares those by call.
    cmp_object_const: EQ | NE => |ir, i| {
        if !i.ra().is_const() || !i.rb().is_const() { return None; }
        let (a, b) = (ir.k(i.ra()), ir.k(i.rb()));
        if a.ty.is_number() || b.ty.is_number() { return None; }
        if a == b { return Some(known(i.op == IrOp::EQ)); }
        if a.ty == Ty::Str { return None; }
        (a.ty == b.ty && (a.ty.is_gc() || a.ty == Ty::P64 || a.ty.is_int64())).then(|| known(i.op == IrOp::NE))
    };
    /// A value compared with itself; NaN is the exception that keeps numbers out.
    cmp_same: LT | GE | LE | GT | ULT | UGE | ULE | UGT | EQ | NE => |ir, i| {
        if i.a != i.b || ir.ty(i.ra()) == Ty::Num { return None; }
        Some(known(matches!(i.op, IrOp::GE | IrOp::LE | IrOp::UGE | IrOp::ULE | IrOp::EQ)))
    };
    /// Constants to the right.
    cmp_swap: LT | GE | LE | GT | ULT | UGE | ULE | UGT => |_ir, i| {
        (i.ra().is_const() && !i.rb().is_const())
            .then_some(Fold::Retry(Ins { op: i.op.swapped(), a: i.b, b: i.a, ..*i }))
    };
    /// Comparing a converted integer with an integral constant is comparing the integers.
    cmp_conv_const: LT | GE | LE | GT | EQ | NE => |ir, i| {
        let k = eval::num_to_int_exact(ir.as_knum(i.rb())?)?;
        let x = inner(ir, i.ra())?;
        if x.op != IrOp::CONV || x.ty() != Ty::Num || conv::src(x.b) != Ty::Int { return None; }
        let k = ir.kint(k);
        Some(Fold::Retry(Ins { a: x.a, b: k.bits(), ..*i }))
    };
    /// Comparing two converted integers is comparing the integers.
    cmp_conv_conv: LT | GE | LE | GT | EQ | NE => |ir, i| {
        let (x, y) = (inner(ir, i.ra())?, inner(ir, i.rb())?);
        let is = |c: &Ins| c.op == IrOp::CONV && c.ty() == Ty::Num && conv::src(c.b) == Ty::Int;
        (is(&x) && is(&y)).then_some(Fold::Retry(Ins { a: x.a, b: y.a, ..*i }))
    };
    /// A fresh object is no other object and never null.
    cmp_fresh: EQ | NE => |ir, i| {
        let fresh = |r: Ref| r.is_ins() && matches!(ir.ins(r).op, IrOp::TNEW | IrOp::TDUP | IrOp::CNEW | IrOp::CNEWI);
        (i.a != i.b && fresh(i.ra()) && (i.rb().is_const() || fresh(i.rb()))).then(|| known(i.op == IrOp::NE))
    };
    /// A fresh table has no metatable.
    cmp_fresh_meta: EQ => |ir, i| {
        if !i.rb().is_const() || ir.k(i.rb()).bits != 0 || ir.k(i.rb()).ty != Ty::Tab { return None; }
        let l = inner(ir, i.ra())?;
        if l.op != IrOp::FLOAD || l.b != crate::ir::ins::Field::TabMeta as u16 { return None; }
        let t = inner(ir, l.ra())?;
        matches!(t.op, IrOp::TNEW | IrOp::TDUP).then_some(Fold::Drop)
    };
}
