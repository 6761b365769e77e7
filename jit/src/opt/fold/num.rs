//! Rules of number arithmetic. IEEE doubles forbid most algebra: each rule says why it is safe.

use super::{Fold, inner, rules};
use crate::ir::eval;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::ty::Ty;

/// 1/k is exact when k is a power of two within range.
fn exact_reciprocal(k: f64) -> Option<f64> {
    let bits = k.to_bits();
    let exp = bits >> 52 & 0x7ff;
    (bits & 0xf_ffff_ffff_ffff == 0 && exp > 1 && exp < 2045).then(|| 1.0 / k)
}

rules! {
    /// Arithmetic on two constants.
    num_const: ADD | SUB | MUL | DIV | MOD | POW | MIN | MAX => |ir, i| {
        let (a, b) = (ir.as_knum(i.ra())?, ir.as_knum(i.rb())?);
        let n = eval::num_arith(i.op, a, b)?;
        Some(Fold::Keep(ir.knum(n)))
    };
    /// Unary functions of constants.
    num_unary_const: NEG | ABS => |ir, i| {
        let a = ir.as_knum(i.ra())?;
        let n = eval::num_arith(i.op, a, 0.0)?;
        Some(Fold::Keep(ir.knum(n)))
    };
    /// `FPMATH` of a constant, for the functions with one correct result.
    num_fpmath_const: FPMATH => |ir, i| {
        let a = ir.as_knum(i.ra())?;
        if i.b > crate::ir::ins::fpm::SQRT { return None; }
        Some(Fold::Keep(ir.knum(eval::fpmath(a, i.b))))
    };
    /// x - 0 => x, and x + -0 => x. Not x + 0: -0 + 0 is +0.
    num_add_zero: ADD | SUB => |ir, i| {
        let k = ir.as_knum(i.rb())?;
        let neutral = if i.op == IrOp::SUB { 0.0f64 } else { -0.0 };
        (k.to_bits() == neutral.to_bits()).then_some(Fold::Keep(i.ra()))
    };
    /// x * 1 => x, x / 1 => x.
    num_mul_one: MUL | DIV => |ir, i| {
        (ir.as_knum(i.rb())? == 1.0).then_some(Fold::Keep(i.ra()))
    };
    /// x * -1 => -x, x / -1 => -x.
    num_mul_minus_one: MUL | DIV => |ir, i| {
        (ir.as_knum(i.rb())? == -1.0).then_some(Fold::Retry(Ins { op: IrOp::NEG, b: 0, ..*i }))
    };
    /// x * 2 => x + x: shorter latency.
    num_mul_two: MUL => |ir, i| {
        (ir.as_knum(i.rb())? == 2.0).then_some(Fold::Retry(Ins { op: IrOp::ADD, b: i.a, ..*i }))
    };
    /// x / k => x * (1/k) when 1/k is exact.
    num_div_power_of_two: DIV => |ir, i| {
        let r = exact_reciprocal(ir.as_knum(i.rb())?)?;
        let k = ir.knum(r);
        Some(Fold::Retry(Ins { op: IrOp::MUL, b: k.bits(), ..*i }))
    };
    /// -(-x) => x, and the magnitude forgets the sign.
    num_neg_neg: NEG | ABS => |ir, i| {
        let x = inner(ir, i.ra())?;
        if i.ty() != Ty::Num || x.op != IrOp::NEG || x.ty() != Ty::Num { return None; }
        Some(if i.op == IrOp::NEG { Fold::Keep(x.ra()) } else { Fold::Retry(Ins { a: x.a, ..*i }) })
    };
    /// abs(abs(x)) => abs(x)
    num_abs_abs: ABS => |ir, i| {
        (inner(ir, i.ra())?.op == IrOp::ABS).then_some(Fold::Keep(i.ra()))
    };
    /// a + -b => a - b, a - -b => a + b.
    num_add_neg: ADD | SUB => |ir, i| {
        let x = inner(ir, i.rb())?;
        if i.ty() != Ty::Num || x.op != IrOp::NEG { return None; }
        let op = if i.op == IrOp::ADD { IrOp::SUB } else { IrOp::ADD };
        Some(Fold::Retry(Ins { op, b: x.a, ..*i }))
    };
    /// x ^ 2 => x * x, x ^ 1 => x. Other powers are left to the library function for equal rounding.
    num_pow_small: POW => |ir, i| {
        match ir.as_knum(i.rb())? {
            1.0 => Some(Fold::Keep(i.ra())),
            2.0 => Some(Fold::Retry(Ins { op: IrOp::MUL, b: i.a, ..*i })),
            _ => None,
        }
    };
    /// floor(floor(x)) => floor(x), also ceil and trunc of an integral value.
    num_round_round: FPMATH => |ir, i| {
        let x = inner(ir, i.ra())?;
        use crate::ir::ins::fpm::TRUNC;
        (i.b <= TRUNC && x.op == IrOp::FPMATH && x.b <= TRUNC).then_some(Fold::Keep(i.ra()))
    };
    /// Rounding a converted integer changes nothing.
    num_round_int: FPMATH => |ir, i| {
        let x = inner(ir, i.ra())?;
        (i.b <= crate::ir::ins::fpm::TRUNC && x.op == IrOp::CONV && crate::ir::ins::conv::src(x.b).is_int32())
            .then_some(Fold::Keep(i.ra()))
    };
}
