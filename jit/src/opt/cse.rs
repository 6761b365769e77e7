//! Common subexpression elimination at emission. Precondition: the instruction is pure, or `limit` is the
//! last instruction that may have changed its meaning. A guard is an expression like any other: finding
//! it again makes the second check redundant.

use crate::ir::buffer::IrBuf;
use crate::ir::ins::Ins;
use crate::ir::refs::Ref;

/// An earlier instruction that equals `i` and lies above `limit`.
pub fn find(ir: &IrBuf, i: &Ins, limit: Ref) -> Option<Ref> {
    let mut r = ir.chain(i.op);
    // An equal instruction cannot precede its operands.
    let (ma, mb) = i.op.operands();
    let low = |m, v| if m == crate::ir::ops::Opnd::Ref { Ref::from_bits(v) } else { Ref::NONE };
    let limit = limit.max(low(ma, i.a)).max(low(mb, i.b));
    while r > limit && r.is_ins() {
        let o = ir.ins(r);
        if o.op == i.op && o.a == i.a && o.b == i.b && o.ty() == i.ty() && (o.is_guard() || !i.is_guard()) {
            return Some(r);
        }
        r = Ref::from_bits(o.prev);
    }
    None
}
