//! Alias analysis of raw memory: C data objects and what pointers lead to.
//!
//! An address is a root, perhaps something variable added to it, and a constant offset. Two addresses with one root differ by
//! what was added; with different roots they differ only when one of them is an object that was just made. That C lets a
//! compiler tell accesses of different types apart is not used: programs look at one piece of memory through several pointers,
//! and the interpreter shows them what is there.

use super::forward::Alias;
use crate::ir::buffer::IrBuf;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;

/// Size in bytes of what a load or store of this type moves.
pub fn width(t: Ty) -> i64 {
    match t {
        Ty::I8 | Ty::U8 => 1,
        Ty::I16 | Ty::U16 => 2,
        Ty::Int | Ty::U32 | Ty::Float => 4,
        _ => 8,
    }
}

/// The operand of an address sum that is an address.
fn address_side(ir: &IrBuf, i: &Ins) -> Ref {
    let is = |r: Ref| matches!(ir.ty(r), Ty::P64 | Ty::Cdata | Ty::Str | Ty::Func);
    if is(i.ra()) { i.ra() } else { i.rb() }
}

/// An address without its constant offset.
pub fn split(ir: &IrBuf, mut r: Ref) -> (Ref, i64) {
    let mut offset = 0i64;
    while r.is_ins() {
        let i = ir.ins(r);
        if i.op != IrOp::ADD || i.ty() != Ty::P64 {
            break;
        }
        let (k, rest) = match (ir.as_kint64(i.rb()), ir.as_kint64(i.ra())) {
            (Some(k), _) => (k, i.ra()),
            (None, Some(k)) => (k, i.rb()),
            (None, None) => break,
        };
        offset = offset.wrapping_add(k as i64);
        r = rest;
    }
    (r, offset)
}

/// What an address was derived from.
pub fn root(ir: &IrBuf, mut r: Ref) -> Ref {
    while r.is_ins() {
        let i = ir.ins(r);
        if i.op != IrOp::ADD || i.ty() != Ty::P64 {
            break;
        }
        r = address_side(ir, i);
    }
    r
}

fn is_fresh(ir: &IrBuf, r: Ref) -> bool {
    r.is_ins() && matches!(ir.ins(r).op, IrOp::CNEW | IrOp::CNEWI)
}

/// Do accesses of types `ta` and `tb` at the addresses `a` and `b` concern the same memory? `Must` only if they are the same access.
pub(super) fn accesses(ir: &IrBuf, (ta, a): (Ty, Ref), (tb, b): (Ty, Ref)) -> Alias {
    let ((ba, oa), (bb, ob)) = (split(ir, a), split(ir, b));
    let (wa, wb) = (width(ta), width(tb));
    if ba == bb {
        return if oa + wa <= ob || ob + wb <= oa {
            Alias::No
        } else if oa == ob && ta == tb {
            Alias::Must
        } else {
            Alias::May
        };
    }
    let (ra, rb) = (root(ir, a), root(ir, b));
    if ra == rb {
        return Alias::May;
    }
    let (fa, fb) = (is_fresh(ir, ra), is_fresh(ir, rb));
    let objects = ir.ty(ra) == Ty::Cdata && ir.ty(rb) == Ty::Cdata;
    if (fa && fb) || (fa && rb < ra) || (fb && ra < rb) || (objects && ra.is_const() && rb.is_const()) {
        return Alias::No;
    }
    Alias::May
}

/// Forwards the load `i`: `Ok` is a value that was stored there; `Err` the last instruction that may have changed the memory.
pub fn load(ir: &IrBuf, i: &Ins, limit: Ref) -> Result<Ref, Ref> {
    let mut s = ir.chain(IrOp::XSTORE);
    while s.is_ins() && s > limit {
        let st = ir.ins(s);
        match accesses(ir, (i.ty(), i.ra()), (st.ty(), st.ra())) {
            Alias::No => {}
            // A narrow store cuts its value: what is read is not what was stored.
            Alias::Must if ir.ty(st.rb()) == i.ty() => return Ok(st.rb()),
            Alias::Must | Alias::May => return Err(s),
        }
        s = Ref::from_bits(st.prev);
    }
    Err(limit)
}
