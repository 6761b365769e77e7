//! Dead store elimination, as stores are emitted: one that changes nothing is not emitted, and one that is overwritten before
//! anything can see it is taken back. Memory can be seen by loads, by calls, and by the interpreter behind every guard.

use super::forward::{self, Alias};
use super::memory;
use crate::ir::buffer::IrBuf;
use crate::ir::ins::Ins;
use crate::ir::ops::{Class, IrOp};
use crate::ir::refs::Ref;

/// Is the store `i` superfluous? An earlier store that it makes superfluous becomes a `NOP`.
pub fn store(ir: &mut IrBuf, i: &Ins) -> bool {
    // One barrier per table and collector step is enough: nothing turns black without a step.
    if i.op == IrOp::TBAR {
        let limit = forward::calls(ir).max(ir.chain(IrOp::GCSTEP));
        return super::cse::find(ir, i, limit).is_some();
    }
    let Some(alias) = alias_rule(i.op) else { return false };
    let limit = forward::calls(ir).max(ir.chain(IrOp::CALLXS));
    let mut s = ir.chain(i.op);
    while s > limit && s.is_ins() {
        let o = *ir.ins(s);
        match alias(ir, i, &o) {
            Alias::No => {}
            // Whichever place it went to: it has left the same value there.
            Alias::May if o.b == i.b => {}
            Alias::May => return false,
            Alias::Must if o.b == i.b => return true,
            Alias::Must => {
                if is_unseen(ir, s) {
                    ir.unlink(s);
                }
                return false;
            }
        }
        s = Ref::from_bits(o.prev);
    }
    false
}

/// How two stores of this kind are compared; nothing for other instructions.
fn alias_rule(op: IrOp) -> Option<fn(&IrBuf, &Ins, &Ins) -> Alias> {
    Some(match op {
        IrOp::ASTORE | IrOp::HSTORE => |ir, a, b| forward::slots(ir, a.ra(), b.ra()),
        IrOp::USTORE => |ir, a, b| forward::upvalues(ir, a.ra(), b.ra()),
        IrOp::FSTORE => |ir, a, b| {
            let (fa, fb) = (ir.ins(a.ra()), ir.ins(b.ra()));
            if fa.b == fb.b { forward::tables(ir, fa.ra(), fb.ra()) } else { Alias::No }
        },
        IrOp::XSTORE => |ir, a, b| memory::accesses(ir, (a.ty(), a.ra()), (b.ty(), b.ra())),
        _ => return None,
    })
}

/// Can nothing have looked at memory since the store `s`? A store of the peeled round is also looked at by the loop's exits.
fn is_unseen(ir: &IrBuf, s: Ref) -> bool {
    s > ir.chain(IrOp::LOOP)
        && (s.ins_index() + 1..ir.len()).all(|n| {
            let i = ir.ins(Ref::ins(n));
            !i.is_guard()
                && match i.op.class() {
                    Class::Pure | Class::RefTo => true,
                    Class::Store => alias_rule(i.op).is_some() || matches!(i.op, IrOp::TBAR | IrOp::OBAR),
                    Class::Meta => i.op == IrOp::NOP,
                    Class::Load | Class::Alloc => false,
                }
        })
}
