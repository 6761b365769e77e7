//! Comparisons and other guards.

use super::Lower;
use crate::abort::Abort;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::ty::Ty;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, types};

/// The condition under which a comparison of numbers fails; NaN goes the right way.
fn float_fails(op: IrOp) -> FloatCC {
    match op {
        IrOp::LT => FloatCC::UnorderedOrGreaterThanOrEqual,
        IrOp::GE => FloatCC::UnorderedOrLessThan,
        IrOp::LE => FloatCC::UnorderedOrGreaterThan,
        IrOp::GT => FloatCC::UnorderedOrLessThanOrEqual,
        IrOp::ULT => FloatCC::GreaterThanOrEqual,
        IrOp::UGE => FloatCC::LessThan,
        IrOp::ULE => FloatCC::GreaterThan,
        IrOp::UGT => FloatCC::LessThanOrEqual,
        IrOp::EQ => FloatCC::NotEqual,
        _ => FloatCC::Equal,
    }
}

fn int_fails(op: IrOp) -> IntCC {
    match op {
        IrOp::LT => IntCC::SignedGreaterThanOrEqual,
        IrOp::GE => IntCC::SignedLessThan,
        IrOp::LE => IntCC::SignedGreaterThan,
        IrOp::GT => IntCC::SignedLessThanOrEqual,
        IrOp::ULT => IntCC::UnsignedGreaterThanOrEqual,
        IrOp::UGE => IntCC::UnsignedLessThan,
        IrOp::ULE => IntCC::UnsignedGreaterThan,
        IrOp::UGT => IntCC::UnsignedLessThanOrEqual,
        IrOp::EQ => IntCC::NotEqual,
        _ => IntCC::Equal,
    }
}

impl Lower<'_, '_> {
    pub(super) fn lower_guard(&mut self, i: &Ins) -> Result<(), Abort> {
        match i.op {
            IrOp::ABC => {
                let (size, index) = (self.get(i.ra()), self.get(i.rb()));
                self.guard_icmp(IntCC::UnsignedGreaterThanOrEqual, index, size);
            }
            IrOp::POLL | IrOp::GCSTEP => {
                let word = if i.op == IrOp::POLL { self.env.flags_word } else { self.env.gc_due };
                let w = self.b.ins().load(types::I32, MemFlagsData::trusted(), self.vm, word);
                self.guard(w);
            }
            IrOp::STACK => {
                let limit =
                    self.b.ins().load(types::I64, MemFlagsData::trusted(), self.vm, self.env.stack_limit);
                let need = self.k64(i.a as u64 * 8);
                let top = self.b.ins().iadd(self.base, need);
                self.guard_icmp(IntCC::UnsignedGreaterThan, top, limit);
            }
            op if self.t.ir.ty(i.ra()) == Ty::Num => {
                let (a, b) = (self.get(i.ra()), self.get(i.rb()));
                let f = self.b.ins().fcmp(float_fails(op), a, b);
                self.guard(f);
            }
            op => {
                let (a, b) = (self.get(i.ra()), self.get(i.rb()));
                self.guard_icmp(int_fails(op), a, b);
            }
        }
        Ok(())
    }
}
