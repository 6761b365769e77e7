//! Rules of conversions.

use super::{Fold, inner, rules};
use crate::ir::eval;
use crate::ir::ins::{Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::ty::Ty;

rules! {
    /// Conversion of an integer constant to a number.
    conv_num_of_const: CONV => |ir, i| {
        let k = ir.as_kint(i.ra())?;
        match (i.ty(), conv::src(i.b)) {
            (Ty::Num, Ty::Int) => Some(Fold::Keep(ir.knum(k as f64))),
            (Ty::Num, Ty::U32) => Some(Fold::Keep(ir.knum(k as u32 as f64))),
            (t @ (Ty::I64 | Ty::U64), _) if i.b & conv::SEXT != 0 => {
                Some(Fold::Keep(ir.kint64(t, k as i64 as u64)))
            }
            (t @ (Ty::I64 | Ty::U64), _) => Some(Fold::Keep(ir.kint64(t, k as u32 as u64))),
            _ => None,
        }
    };
    /// Conversion of a number constant to an integer; a guard on an inexact one fails.
    conv_int_of_const: CONV => |ir, i| {
        let k = ir.as_knum(i.ra())?;
        if i.ty() != Ty::Int { return None; }
        let exact = eval::num_to_int_exact(k);
        if i.b & (conv::CHECK | conv::INDEX) != 0 {
            return Some(match exact { Some(n) => Fold::Keep(ir.kint(n)), None => Fold::Fail });
        }
        exact.map(|n| Fold::Keep(ir.kint(n)))
    };
    /// int(num(x)) => x for a 32-bit integer x.
    conv_round_trip: CONV => |ir, i| {
        let x = inner(ir, i.ra())?;
        (i.ty() == Ty::Int && x.op == IrOp::CONV && x.ty() == Ty::Num && conv::src(x.b) == Ty::Int)
            .then_some(Fold::Keep(x.ra()))
    };
    /// num(int(x)) => x when the inner conversion was guarded to be exact.
    conv_round_trip_checked: CONV => |ir, i| {
        let x = inner(ir, i.ra())?;
        (i.ty() == Ty::Num && conv::src(i.b) == Ty::Int && x.op == IrOp::CONV && conv::src(x.b) == Ty::Num
            && x.b & conv::CHECK != 0)
            .then_some(Fold::Keep(x.ra()))
    };
    /// An index is an integer: the sum of an exactly converted integer and an integral constant is computed
    /// as an integer with an overflow check. (An overflowing sum is no index either.)
    conv_index_of_sum: CONV => |ir, i| {
        if i.ty() != Ty::Int || i.b & conv::INDEX == 0 { return None; }
        let x = inner(ir, i.ra())?;
        if !matches!(x.op, IrOp::ADD | IrOp::SUB) || x.ty() != Ty::Num { return None; }
        let k = eval::num_to_int_exact(ir.as_knum(x.rb())?)?;
        let y = inner(ir, x.ra())?;
        if y.op != IrOp::CONV || conv::src(y.b) != Ty::Int { return None; }
        let op = if x.op == IrOp::ADD { IrOp::ADDOV } else { IrOp::SUBOV };
        let k = ir.kint(k);
        Some(Fold::Retry(Ins::new(op, IrT::guard(Ty::Int), y.ra(), k)))
    };
    /// tobit(num(x)) => x.
    tobit_of_int: TOBIT => |ir, i| {
        if let Some(k) = ir.as_knum(i.ra()) {
            return Some(Fold::Keep(ir.kint(eval::tobit(k))));
        }
        let x = inner(ir, i.ra())?;
        (x.op == IrOp::CONV && x.ty() == Ty::Num && conv::src(x.b).is_int32()).then_some(Fold::Keep(x.ra()))
    };
    /// tobit(num(a) + num(b)) => a + b as integers: sums of two 32-bit integers are exact in a double.
    tobit_of_sum: TOBIT => |ir, i| {
        let x = inner(ir, i.ra())?;
        if !matches!(x.op, IrOp::ADD | IrOp::SUB) || x.ty() != Ty::Num { return None; }
        let mut side = |r| {
            if let Some(k) = ir.as_knum(r) {
                return eval::num_to_int_exact(k).map(|k| ir.kint(k));
            }
            let c = inner(ir, r)?;
            (c.op == IrOp::CONV && conv::src(c.b) == Ty::Int).then(|| c.ra())
        };
        let (a, b) = (side(x.ra())?, side(x.rb())?);
        Some(Fold::Retry(Ins::new(x.op, IrT::of(Ty::Int), a, b)))
    };
}
