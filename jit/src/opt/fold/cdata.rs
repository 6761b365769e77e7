//! Rules of C data: objects made on the trace, addresses, 64-bit integers.

use super::{Fold, inner, rules};
use crate::ir::ins::{Field, Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::ty::Ty;

rules! {
    /// The type of an object made on the trace is known.
    cdata_fresh_type: FLOAD => |ir, i| {
        if i.b != Field::CdataCtypeid as u16 || !i.ra().is_ins() { return None; }
        let o = ir.ins(i.ra());
        matches!(o.op, IrOp::CNEW | IrOp::CNEWI).then_some(Fold::Keep(o.ra()))
    };
    /// So is the payload of an immutable one. Across a loop phi too, which is what makes the allocation needless: the object of
    /// the round before holds what the value was then, and the value becomes a phi itself.
    cdata_fresh_payload: FLOAD => |ir, i| {
        if i.b != Field::CdataPtr as u16 && i.b != Field::CdataInt64 as u16 || !i.ra().is_ins() { return None; }
        let o = ir.ins(i.ra());
        (o.op == IrOp::CNEWI && ir.ty(o.rb()) == i.ty()).then_some(Fold::Keep(o.rb()))
    };
    /// (p + k1) + k2 => p + (k1 + k2) for addresses. Not if the inner one is a loop phi.
    address_assoc: ADD => |ir, i| {
        if i.ty() != Ty::P64 { return None; }
        let k2 = ir.as_kint64(i.rb())?;
        let x = inner(ir, i.ra())?;
        if x.op != IrOp::ADD || x.ty() != Ty::P64 { return None; }
        let k = ir.kint64(Ty::I64, ir.as_kint64(x.rb())?.wrapping_add(k2));
        Some(Fold::Retry(Ins { a: x.a, b: k.bits(), ..*i }))
    };
    /// p + 0 => p for addresses; x + 0, x - 0, x | 0, x ^ 0, x * 1 => x for 64-bit integers.
    int64_neutral: ADD | SUB | BOR | BXOR | MUL => |ir, i| {
        if !(i.ty().is_int64() || i.ty() == Ty::P64) || ir.ty(i.ra()) != i.ty() { return None; }
        let neutral = (i.op == IrOp::MUL) as u64;
        (ir.as_kint64(i.rb())? == neutral).then_some(Fold::Keep(i.ra()))
    };
    /// Arithmetic on two 64-bit constants.
    int64_const: ADD | SUB | MUL | BAND | BOR | BXOR => |ir, i| {
        if !i.ty().is_int64() { return None; }
        let (a, b) = (ir.as_kint64(i.ra())?, ir.as_kint64(i.rb())?);
        let n = match i.op {
            IrOp::ADD => a.wrapping_add(b),
            IrOp::SUB => a.wrapping_sub(b),
            IrOp::MUL => a.wrapping_mul(b),
            IrOp::BAND => a & b,
            IrOp::BOR => a | b,
            _ => a ^ b,
        };
        Some(Fold::Keep(ir.kint64(i.ty(), n)))
    };
    /// An index that is shifted or multiplied: constants.
    int64_shift_const: BSHL => |ir, i| {
        if !i.ty().is_int64() { return None; }
        let (a, n) = (ir.as_kint64(i.ra())?, ir.as_kint(i.rb())?);
        Some(Fold::Keep(ir.kint64(i.ty(), a.wrapping_shl(n as u32))))
    };
    /// i64(num(x)) => i64(x) for a 32-bit integer x.
    int64_of_converted: CONV => |ir, i| {
        if i.ty() != Ty::I64 || conv::src(i.b) != Ty::Num { return None; }
        let x = inner(ir, i.ra())?;
        if x.op != IrOp::CONV || x.ty() != Ty::Num { return None; }
        let mode = match conv::src(x.b) {
            Ty::Int => conv::from(Ty::Int) | conv::SEXT,
            Ty::U32 => conv::from(Ty::U32),
            _ => return None,
        };
        Some(Fold::Retry(Ins::raw(IrOp::CONV, IrT::of(Ty::I64), x.a, mode)))
    };
}
