//! Arithmetic and bit operations.

use super::{Lower, helpers::Helper};
use crate::abort::Abort;
use crate::ir::ins::{Ins, fpm};
use crate::ir::ops::{IrOp, Opnd};
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value};

impl Lower<'_, '_> {
    fn num(&mut self, i: &Ins, a: Value, b: Option<Value>) -> Result<Value, Abort> {
        let two = || b.ok_or(Abort::CodeGeneration);
        Ok(match i.op {
            IrOp::ADD => self.b.ins().fadd(a, two()?),
            IrOp::SUB => self.b.ins().fsub(a, two()?),
            IrOp::MUL => self.b.ins().fmul(a, two()?),
            IrOp::DIV => self.b.ins().fdiv(a, two()?),
            IrOp::MOD => {
                let b = two()?;
                let q = self.b.ins().fdiv(a, b);
                let q = self.b.ins().floor(q);
                let p = self.b.ins().fmul(q, b);
                self.b.ins().fsub(a, p)
            }
            IrOp::NEG => self.b.ins().fneg(a),
            IrOp::ABS => self.b.ins().fabs(a),
            IrOp::MIN => {
                let c = self.b.ins().fcmp(FloatCC::LessThan, a, two()?);
                self.b.ins().select(c, a, two()?)
            }
            IrOp::MAX => {
                let c = self.b.ins().fcmp(FloatCC::GreaterThan, a, two()?);
                self.b.ins().select(c, a, two()?)
            }
            IrOp::POW => self.call_helper(Helper::Pow, &[a, two()?]).ok_or(Abort::CodeGeneration)?,
            IrOp::LDEXP => self.call_helper(Helper::Ldexp, &[a, two()?]).ok_or(Abort::CodeGeneration)?,
            IrOp::FPMATH => {
                let h = match i.b {
                    fpm::FLOOR => return Ok(self.b.ins().floor(a)),
                    fpm::CEIL => return Ok(self.b.ins().ceil(a)),
                    fpm::TRUNC => return Ok(self.b.ins().trunc(a)),
                    fpm::SQRT => return Ok(self.b.ins().sqrt(a)),
                    fpm::LOG => Helper::Log,
                    fpm::LOG2 => Helper::Log2,
                    fpm::EXP => Helper::Exp,
                    fpm::SIN => Helper::Sin,
                    fpm::COS => Helper::Cos,
                    fpm::TAN => Helper::Tan,
                    fpm::LOG10 => Helper::Log10,
                    fpm::ASIN => Helper::Asin,
                    fpm::ACOS => Helper::Acos,
                    fpm::ATAN => Helper::Atan,
                    fpm::SINH => Helper::Sinh,
                    fpm::COSH => Helper::Cosh,
                    _ => Helper::Tanh,
                };
                self.call_helper(h, &[a]).ok_or(Abort::CodeGeneration)?
            }
            _ => return Err(Abort::CodeGeneration),
        })
    }

    fn int(&mut self, i: &Ins, a: Value, b: Option<Value>) -> Result<Value, Abort> {
        let two = || b.ok_or(Abort::CodeGeneration);
        Ok(match i.op {
            IrOp::ADD => self.b.ins().iadd(a, two()?),
            IrOp::SUB => self.b.ins().isub(a, two()?),
            IrOp::MUL => self.b.ins().imul(a, two()?),
            IrOp::NEG => self.b.ins().ineg(a),
            IrOp::BNOT => self.b.ins().bnot(a),
            IrOp::BSWAP => self.b.ins().bswap(a),
            IrOp::BAND => self.b.ins().band(a, two()?),
            IrOp::BOR => self.b.ins().bor(a, two()?),
            IrOp::BXOR => self.b.ins().bxor(a, two()?),
            IrOp::BSHL => self.b.ins().ishl(a, two()?),
            IrOp::BSHR => self.b.ins().ushr(a, two()?),
            IrOp::BSAR => self.b.ins().sshr(a, two()?),
            IrOp::BROL => self.b.ins().rotl(a, two()?),
            IrOp::BROR => self.b.ins().rotr(a, two()?),
            IrOp::MIN => {
                let c = self.b.ins().icmp(IntCC::SignedLessThan, a, two()?);
                self.b.ins().select(c, a, two()?)
            }
            IrOp::MAX => {
                let c = self.b.ins().icmp(IntCC::SignedGreaterThan, a, two()?);
                self.b.ins().select(c, a, two()?)
            }
            IrOp::ADDOV | IrOp::SUBOV | IrOp::MULOV => {
                let (v, overflow) = match i.op {
                    IrOp::ADDOV => self.b.ins().sadd_overflow(a, two()?),
                    IrOp::SUBOV => self.b.ins().ssub_overflow(a, two()?),
                    _ => self.b.ins().smul_overflow(a, two()?),
                };
                self.guard(overflow);
                v
            }
            _ => return Err(Abort::CodeGeneration),
        })
    }

    /// A sum or difference with a product in it, rounded once (`-O+fma`).
    fn fused(&mut self, at: Ref, i: &Ins) -> Option<Value> {
        if !self.env.fma || i.ty() != Ty::Num || !matches!(i.op, IrOp::ADD | IrOp::SUB) {
            return None;
        }
        // In the loop, operands of a product from before it have other values.
        let lp = self.t.ir.chain(IrOp::LOOP);
        let product = |l: &Self, r: Ref| {
            let p = (r.is_ins() && (r > lp) == (at > lp)).then(|| *l.t.ir.ins(r))?;
            (p.op == IrOp::MUL && p.ty() == Ty::Num).then_some((p.ra(), p.rb()))
        };
        let (x, y, other, negate) = match (product(self, i.ra()), product(self, i.rb())) {
            (Some((x, y)), _) => (x, y, i.rb(), i.op == IrOp::SUB),
            (None, Some((x, y))) => (x, y, i.ra(), false),
            (None, None) => return None,
        };
        let (mut x, y, mut z) = (self.get(x), self.get(y), self.get(other));
        if negate {
            z = self.b.ins().fneg(z);
        } else if i.op == IrOp::SUB {
            x = self.b.ins().fneg(x);
        }
        Some(self.b.ins().fma(x, y, z))
    }

    /// A checked sum with a constant: whether there is room for it is asked before.
    fn sum_with_const(&mut self, i: &Ins, a: Value) -> Option<Value> {
        if !matches!(i.op, IrOp::ADDOV | IrOp::SUBOV) {
            return None;
        }
        let k = self.t.ir.as_kint(i.rb())?;
        let k = if i.op == IrOp::SUBOV { k.checked_neg()? } else { k };
        let (cc, end) = if k < 0 {
            (IntCC::SignedLessThan, i32::MIN - k)
        } else {
            (IntCC::SignedGreaterThan, i32::MAX - k)
        };
        let end = self.k32(end as u32);
        self.guard_icmp(cc, a, end);
        let k = self.k32(k as u32);
        Some(self.b.ins().iadd(a, k))
    }

    pub(super) fn lower_alu(&mut self, r: Ref, i: &Ins) -> Result<(), Abort> {
        if let Some(v) = self.fused(r, i) {
            self.set(r, v);
            return Ok(());
        }
        let a = self.get(i.ra());
        if let Some(v) = self.sum_with_const(i, a) {
            self.set(r, v);
            return Ok(());
        }
        let b = (i.op.operands().1 == Opnd::Ref).then(|| self.get(i.rb()));
        let v = if i.ty() == Ty::Num { self.num(i, a, b)? } else { self.int(i, a, b)? };
        self.set(r, v);
        Ok(())
    }
}
