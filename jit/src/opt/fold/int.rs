//! Rules of 32-bit integer arithmetic and bit operations.

use super::{Fold, inner, rules};
use crate::ir::eval;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;

rules! {
    /// Arithmetic on two constants; an overflow of a checked one is a guard that fails.
    int_const: ADD | SUB | MUL | BAND | BOR | BXOR | BSHL | BSHR | BSAR | BROL | BROR | MIN | MAX
        | ADDOV | SUBOV | MULOV => |ir, i| {
        let (a, b) = (ir.as_kint(i.ra())?, ir.as_kint(i.rb())?);
        match eval::int_arith(i.op, a, b) {
            Some(n) => Some(Fold::Keep(ir.kint(n))),
            None => matches!(i.op, IrOp::ADDOV | IrOp::SUBOV | IrOp::MULOV).then_some(Fold::Fail),
        }
    };
    /// Unary operations on constants.
    int_unary_const: NEG | BNOT | BSWAP => |ir, i| {
        let n = eval::int_arith(i.op, ir.as_kint(i.ra())?, 0)?;
        Some(Fold::Keep(ir.kint(n)))
    };
    /// x + 0 => x for integers, also shifts by 0, x | 0, x ^ 0, x - 0.
    int_neutral: ADD | SUB | ADDOV | SUBOV | BOR | BXOR | BSHL | BSHR | BSAR | BROL | BROR => |ir, i| {
        (ir.as_kint(i.rb())? == 0).then_some(Fold::Keep(i.ra()))
    };
    /// x & 0 => 0, x & -1 => x, x | -1 => -1, x ^ -1 => ~x.
    int_mask: BAND | BOR | BXOR => |ir, i| {
        let k = ir.as_kint(i.rb())?;
        match (i.op, k) {
            (IrOp::BAND, 0) | (IrOp::BOR, -1) => Some(Fold::Keep(i.rb())),
            (IrOp::BAND, -1) => Some(Fold::Keep(i.ra())),
            (IrOp::BXOR, -1) => Some(Fold::Retry(Ins { op: IrOp::BNOT, b: 0, ..*i })),
            _ => None,
        }
    };
    /// x & x => x, x | x => x, x ^ x => 0, x - x => 0.
    int_same: BAND | BOR | BXOR | SUB | SUBOV => |ir, i| {
        if i.a != i.b || !i.ty().is_int32() { return None; }
        Some(match i.op {
            IrOp::BAND | IrOp::BOR => Fold::Keep(i.ra()),
            _ => Fold::Keep(ir.kint(0)),
        })
    };
    /// The shift count is taken modulo 32.
    int_shift_range: BSHL | BSHR | BSAR | BROL | BROR => |ir, i| {
        let k = ir.as_kint(i.rb())?;
        if !i.ty().is_int32() || k & 31 == k { return None; }
        let k = ir.kint(k & 31);
        Some(Fold::Retry(Ins { b: k.bits(), ..*i }))
    };
    /// (x & 31) as a shift count => x: the machine masks it.
    int_shift_mask: BSHL | BSHR | BSAR | BROL | BROR => |ir, i| {
        let x = inner(ir, i.rb())?;
        if !i.ty().is_int32() || x.op != IrOp::BAND { return None; }
        (ir.as_kint(x.rb())? & 31 == 31).then_some(Fold::Retry(Ins { b: x.a, ..*i }))
    };
    /// (x + k1) + k2 => x + (k1 + k2), the same for the bit operations. Not if the inner one is a loop phi:
    /// the result would reach across the loop edge. Not for checked ones: the inner check would be lost.
    int_assoc: ADD | BAND | BOR | BXOR => |ir, i| {
        let k2 = ir.as_kint(i.rb())?;
        let x = inner(ir, i.ra())?;
        if x.op != i.op || !i.ty().is_int32() || x.is_guard() { return None; }
        let k = eval::int_arith(i.op, ir.as_kint(x.rb())?, k2)?;
        let k = ir.kint(k);
        Some(Fold::Retry(Ins { a: x.a, b: k.bits(), ..*i }))
    };
    /// Shifts of one kind by constants add up, as long as they stay below 32.
    int_shift_shift: BSHL | BSHR | BSAR => |ir, i| {
        let k2 = ir.as_kint(i.rb())?;
        let x = inner(ir, i.ra())?;
        if x.op != i.op || !i.ty().is_int32() { return None; }
        let k = ir.as_kint(x.rb())? + k2;
        if !(0..32).contains(&k) { return None; }
        let k = ir.kint(k);
        Some(Fold::Retry(Ins { a: x.a, b: k.bits(), ..*i }))
    };
    /// ~~x => x, bswap(bswap(x)) => x, -(-x) => x.
    int_twice: BNOT | BSWAP | NEG => |ir, i| {
        let x = inner(ir, i.ra())?;
        (x.op == i.op && i.ty().is_int32() && x.ty().is_int32()).then_some(Fold::Keep(x.ra()))
    };
    /// x * 1 => x, x * 0 => 0.
    int_mul_small: MUL | MULOV => |ir, i| {
        match ir.as_kint(i.rb())? {
            1 => Some(Fold::Keep(i.ra())),
            0 => Some(Fold::Keep(i.rb())),
            _ => None,
        }
    };
}
