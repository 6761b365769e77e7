//! Unary and binary operators.

use super::emit::OPERAND_MAX;
use super::expr::{CdataLiteral, Exp, Val};
use super::*;
use crate::value::number::to_bit;

impl Compiler<'_> {
    pub(super) fn unary(&mut self, op: UnOp, e: &mut Exp) -> Result<()> {
        let ins = match op {
            UnOp::Not => {
                std::mem::swap(&mut e.t, &mut e.f);
                self.drop_values(e.f);
                self.drop_values(e.t);
                self.discharge(e)?;
                match e.val {
                    Val::Nil | Val::False => {
                        e.val = Val::True;
                        return Ok(());
                    }
                    Val::True | Val::Str(_) | Val::Num(_) | Val::Cdata(_) => {
                        e.val = Val::False;
                        return Ok(());
                    }
                    Val::Jump(list) => {
                        self.invert(list);
                        return Ok(());
                    }
                    Val::Open(pc) => {
                        self.reserve(1)?;
                        let reg = self.fs.free - 1;
                        self.fs.code[pc as usize] = self.fs.code[pc as usize].with_a(reg);
                        e.val = Val::Reg(reg);
                    }
                    _ => {}
                }
                Op::NOT
            }
            UnOp::Neg => {
                if !e.has_jumps() {
                    match e.val {
                        Val::Cdata(literal) => {
                            e.val = Val::Cdata(match literal {
                                CdataLiteral::Int64(n) => CdataLiteral::Int64(n.wrapping_neg()),
                                CdataLiteral::UInt64(n) => CdataLiteral::UInt64(n.wrapping_neg()),
                                CdataLiteral::Complex(n) => CdataLiteral::Complex(-n),
                            });
                            return Ok(());
                        }
                        Val::Num(n) if n != 0.0 => {
                            e.val = Val::Num(-n);
                            return Ok(());
                        }
                        _ => {}
                    }
                }
                self.to_any_reg(e)?;
                Op::UNM
            }
            UnOp::Len => {
                self.to_any_reg(e)?;
                Op::LEN
            }
            UnOp::BitNot => {
                if let Some(n) = e.number() {
                    e.val = Val::Num(!to_bit(n) as f64);
                    return Ok(());
                }
                self.to_any_reg(e)?;
                Op::BNOT
            }
        };
        self.free_exp(e);
        let Val::Reg(reg) = e.val else { unreachable!("the operand was put into a register") };
        e.val = Val::Open(self.emit(Instr::ad(ins, 0, reg))?);
        Ok(())
    }

    /// `e op= value`
    pub(super) fn operate(&mut self, op: BinOp, e: &mut Exp, value: ExprId) -> Result<()> {
        self.binary_left(op, e)?;
        let mut right = self.expr(value)?;
        self.binary(op, e, &mut right)
    }

    /// Prepares the left operand before the right one is compiled.
    pub(super) fn binary_left(&mut self, op: BinOp, e: &mut Exp) -> Result<()> {
        match op {
            BinOp::And => self.branch_if_false(e)?,
            BinOp::Or => self.branch_if_true(e)?,
            BinOp::Coalesce => {
                let reg = self.to_next_reg(e)?;
                self.emit(Instr::ad(Op::ISNEP, reg, 0))?;
                // The jump over the right operand; the register is its destination too.
                let list = self.jump()?;
                self.free_reg(reg);
                *e = Exp { val: Val::Void, t: list, f: JumpList::NONE };
            }
            BinOp::Concat => {
                self.to_next_reg(e)?;
            }
            BinOp::Eq | BinOp::Ne => {
                if !e.is_constant_value() {
                    self.to_any_reg(e)?;
                }
            }
            _ => {
                if e.number().is_none() {
                    self.to_any_reg(e)?;
                }
            }
        }
        Ok(())
    }

    /// Completes a binary operation; the result is in `a`.
    pub(super) fn binary(&mut self, op: BinOp, a: &mut Exp, b: &mut Exp) -> Result<()> {
        match op {
            BinOp::And => {
                self.discharge(b)?;
                b.f = self.join(a.f, b.f);
                *a = *b;
            }
            BinOp::Or => {
                self.discharge(b)?;
                b.t = self.join(a.t, b.t);
                *a = *b;
            }
            BinOp::Coalesce => {
                self.to_next_reg(b)?;
                self.land_here(a.t);
                *a = *b;
            }
            BinOp::Concat => {
                self.to_value(b)?;
                let open = match b.val {
                    Val::Open(pc) if self.fs.code[pc as usize].op() == Op::CAT => Some(pc),
                    _ => None,
                };
                let Val::Reg(left) = a.val else { unreachable!("the left operand is in a register") };
                if let Some(pc) = open {
                    // Extend the concatenation to the left.
                    self.free_exp(a);
                    self.fs.code[pc as usize] = self.fs.code[pc as usize].with_b(left);
                    a.val = Val::Open(pc);
                } else {
                    let right = self.to_next_reg(b)?;
                    self.free_exp(b);
                    self.free_exp(a);
                    a.val = Val::Open(self.emit(Instr::abc(Op::CAT, 0, left, right))?);
                }
            }
            BinOp::Eq | BinOp::Ne | BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge => {
                self.compare(op, a, b)?
            }
            _ => self.arith(op, a, b)?,
        }
        Ok(())
    }

    fn arith(&mut self, op: BinOp, a: &mut Exp, b: &mut Exp) -> Result<()> {
        if let (Some(x), Some(y)) = (a.number(), b.number())
            && let Some(n) = fold::binary(op, x, y)
        {
            a.val = Val::Num(n);
            return Ok(());
        }
        let (ins, rb, rc);
        if let Some(plain) = register_op(op) {
            rc = self.to_any_reg(b)?;
            rb = self.to_any_reg(a)?;
            ins = plain;
        } else {
            let (vv, vn, nv) = arith_ops(op);
            // The right operand first: completing an index frees registers.
            self.to_value(b)?;
            let right_const = match b.number() {
                Some(n) => Some(self.num_const(n)?).filter(|&k| k <= OPERAND_MAX),
                None => None,
            };
            let right = match right_const {
                Some(k) => k,
                None => self.to_any_reg(b)?,
            };
            self.to_value(a)?;
            let left_const = match a.number() {
                Some(n) if b.number().is_none() => Some(self.num_const(n)?).filter(|&k| k <= OPERAND_MAX),
                _ => None,
            };
            if let Some(k) = left_const {
                (ins, rb, rc) = (nv, right, k);
            } else {
                rb = self.to_any_reg(a)?;
                rc = right;
                ins = if right_const.is_some() { vn } else { vv };
            }
        }
        self.free_pair(a, b);
        a.val = Val::Open(self.emit(Instr::abc(ins, 0, rb, rc))?);
        Ok(())
    }

    /// Gives back the registers of two operands, in whatever order they were taken.
    fn free_pair(&mut self, a: &Exp, b: &Exp) {
        for e in [a, b] {
            if let Val::Reg(reg) = e.val
                && reg >= self.fs.nactive
            {
                self.fs.free -= 1;
            }
        }
    }

    fn compare(&mut self, op: BinOp, a: &mut Exp, b: &mut Exp) -> Result<()> {
        self.to_value(a)?;
        let ins = if matches!(op, BinOp::Eq | BinOp::Ne) {
            // A constant goes to the right.
            let (left, right) = if a.val.is_constant() { (&mut *b, &mut *a) } else { (&mut *a, &mut *b) };
            let reg = self.to_any_reg(left)?;
            self.to_value(right)?;
            let (eq, d) = match right.val {
                Val::Nil | Val::False | Val::True => (Op::ISEQP, right.val.primitive()),
                Val::Str(id) => (Op::ISEQS, self.str_const(id)?),
                Val::Num(n) => (Op::ISEQN, self.num_const(n)?),
                _ => (Op::ISEQV, self.to_any_reg(right)?),
            };
            let ins = Instr::ad(eq, reg, d);
            if op == BinOp::Ne { Instr(ins.0 ^ 1) } else { ins }
        } else if matches!(op, BinOp::Gt | BinOp::Ge) {
            // a > b is b < a; the operands keep their order of evaluation.
            self.to_value(b)?;
            let left = self.to_any_reg(b)?;
            let right = self.to_any_reg(a)?;
            Instr::ad(if op == BinOp::Gt { Op::ISLT } else { Op::ISLE }, left, right)
        } else {
            let right = self.to_any_reg(b)?;
            let left = self.to_any_reg(a)?;
            Instr::ad(if op == BinOp::Lt { Op::ISLT } else { Op::ISLE }, left, right)
        };
        self.free_pair(a, b);
        self.emit(ins)?;
        a.val = Val::Jump(self.jump()?);
        Ok(())
    }

    /// `cond ? yes : no`: both values go to the same new register.
    pub(super) fn conditional(&mut self, cond: ExprId, yes: ExprId, no: ExprId) -> Result<Exp> {
        let otherwise = self.condition(cond)?;
        self.place += 1;
        let mut e = self.expr(yes)?;
        let reg = self.to_next_reg(&mut e)?;
        let end = self.jump()?;
        self.land_here(otherwise);
        self.free_reg(reg);
        self.place += 1;
        let mut e = self.expr(no)?;
        self.to_next_reg(&mut e)?;
        self.land_here(end);
        Ok(e)
    }
}

/// Operators that take registers only.
fn register_op(op: BinOp) -> Option<Op> {
    Some(match op {
        BinOp::Pow => Op::POW,
        BinOp::BitAnd => Op::BAND,
        BinOp::BitOr => Op::BOR,
        BinOp::BitXor => Op::BXOR,
        BinOp::Shl => Op::BSHL,
        BinOp::Shr => Op::BSHR,
        BinOp::Sar => Op::BSAR,
        _ => return None,
    })
}

/// The register, register-constant and constant-register forms of an arithmetic operator.
fn arith_ops(op: BinOp) -> (Op, Op, Op) {
    match op {
        BinOp::Add => (Op::ADDVV, Op::ADDVN, Op::ADDNV),
        BinOp::Sub => (Op::SUBVV, Op::SUBVN, Op::SUBNV),
        BinOp::Mul => (Op::MULVV, Op::MULVN, Op::MULNV),
        BinOp::Div => (Op::DIVVV, Op::DIVVN, Op::DIVNV),
        _ => (Op::MODVV, Op::MODVN, Op::MODNV),
    }
}
