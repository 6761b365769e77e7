//! Dead code elimination. Postcondition: every instruction left is a guard, has an effect, or is used by
//! one, by a snapshot or by a `PHI` that is used. A check against overflow guards a result alone: it goes with it.

use crate::ir::ops::{Class, IrOp, Opnd};
use crate::ir::refs::Ref;
use crate::trace::Trace;

/// Runs the pass.
pub fn run(t: &mut Trace) {
    let n = t.ir.len();
    let mut live = vec![false; n];
    for e in &t.map {
        if e.value.is_ins() {
            live[e.value.ins_index()] = true;
        }
    }
    // A PHI's right side is live when its left side is used; using one may revive another, so until stable.
    loop {
        let before = live.iter().filter(|l| **l).count();
        for r in t.ir.refs().rev() {
            let i = *t.ir.ins(r);
            let needed = match i.op {
                IrOp::PHI => live[i.ra().ins_index()],
                IrOp::NOP => false,
                op => {
                    live[r.ins_index()]
                        || i.is_guard() && !matches!(op, IrOp::ADDOV | IrOp::SUBOV | IrOp::MULOV)
                        || matches!(op.class(), Class::Store)
                }
            };
            if !needed {
                continue;
            }
            live[r.ins_index()] = true;
            let (ma, mb) = i.op.operands();
            for (m, v) in [(ma, i.ra()), (mb, i.rb())] {
                if m == Opnd::Ref && v.is_ins() {
                    live[v.ins_index()] = true;
                }
            }
        }
        if live.iter().filter(|l| **l).count() == before {
            break;
        }
    }
    for r in t.ir.refs().skip(1) {
        if !live[r.ins_index()] && r >= Ref::FIRST {
            t.ir.nop(r);
        }
    }
}
