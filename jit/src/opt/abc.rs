//! Array bounds checks that follow from others. The recorder makes two checks of a loop whose index runs through an array: of the
//! index and of the loop's limit. They are typed `p64`; together they hold for every round, so the loop repeats neither.

use super::forward::key_offset;
use crate::ir::buffer::IrBuf;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;

/// The type of a check that is made once for all rounds.
pub const INVARIANT: Ty = Ty::P64;

/// Largest distance of an index from the one it is compared with: far from where 32 bits wrap around, as array sizes are.
pub const OFFSET_MAX: u32 = 1 << 28;

/// Does the check `i` hold because others do? One of a constant index may be widened instead, which is as good.
pub fn is_redundant(ir: &mut IrBuf, i: &Ins) -> bool {
    let size = i.ra();
    if i.ty() == INVARIANT {
        let lp = ir.chain(IrOp::LOOP);
        return !lp.is_none() && (size.is_const() || (size < lp && !ir.ins(size).t.is_phi()));
    }
    let (base, offset) = key_offset(ir, i.rb());
    if offset.unsigned_abs() > OFFSET_MAX {
        return false;
    }
    // A check cannot precede its operands.
    let mut limit = if size.is_const() { Ref::NONE } else { size };
    if base.is_ins() {
        limit = limit.max(base);
    }
    let (mut below, mut above) = (base.is_none() && offset >= 0, false);
    let mut r = ir.chain(IrOp::ABC);
    while r > limit && r.is_ins() {
        let o = *ir.ins(r);
        let (b, k) = key_offset(ir, o.rb());
        if o.ra() == size && b == base && k.unsigned_abs() <= OFFSET_MAX {
            if base.is_none() && k >= 0 && offset >= 0 {
                // The index may be a sum of constants, which comes later than the check.
                let widest = ir.kint(offset.max(k));
                ir.ins_mut(r).b = widest.bits();
                return true;
            }
            below |= k <= offset;
            above |= k >= offset;
            if below && above {
                return true;
            }
        }
        r = Ref::from_bits(o.prev);
    }
    false
}
