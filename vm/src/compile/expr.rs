//! Expressions.
//!
//! An expression is first a description ([`Exp`]) of where its value is or what would make it. Only
//! when somebody needs it in a register, or as operand of an instruction, is the code completed.

use super::emit::OPERAND_MAX;
use super::*;
use crate::bytecode::instr::NO_REG;
use crate::bytecode::protodef::KVal;

/// Where a value is, or how to make it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Val {
    /// No expression.
    Void,
    Nil,
    False,
    True,
    Str(StrId),
    Num(f64),
    /// A 64-bit or complex literal.
    Cdata(CdataLiteral),
    /// In a register.
    Reg(Reg),
    /// Made by this instruction, whose destination is still open.
    Open(Pc),
    Local {
        reg: Reg,
        var: VarId,
    },
    Upvalue {
        index: u32,
        var: VarId,
    },
    Global(StrId),
    Index {
        base: Reg,
        key: Key,
    },
    /// True if the jumps of the list are taken; the first one follows its comparison.
    Jump(JumpList),
    /// Result of the call or `...` at `pc`, in `base`.
    Call {
        pc: Pc,
        base: Reg,
    },
}

/// The key of an index expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Key {
    Reg(Reg),
    /// String constant.
    Str(u32),
    /// Small integer.
    Byte(u32),
}

/// A literal that becomes cdata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CdataLiteral {
    Int64(i64),
    UInt64(u64),
    Complex(f64),
}

impl Val {
    /// Operand of `KPRI` and its kin.
    pub(super) fn primitive(self) -> u32 {
        match self {
            Val::False => 1,
            Val::True => 2,
            _ => 0,
        }
    }

    fn is_constant(self) -> bool {
        matches!(self, Val::Nil | Val::False | Val::True | Val::Str(_) | Val::Num(_))
    }
}

/// An expression under construction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exp {
    pub(super) val: Val,
    /// Jumps taken when it is true, maybe with its value.
    pub(super) t: JumpList,
    /// Jumps taken when it is false, maybe with its value.
    pub(super) f: JumpList,
}

impl Exp {
    pub(super) fn new(val: Val) -> Exp {
        Exp { val, t: JumpList::NONE, f: JumpList::NONE }
    }

    fn has_jumps(&self) -> bool {
        self.t != self.f
    }

    pub(super) fn is_constant_value(&self) -> bool {
        self.val.is_constant() && !self.has_jumps()
    }

    fn number(&self) -> Option<f64> {
        match self.val {
            Val::Num(n) if !self.has_jumps() => Some(n),
            _ => None,
        }
    }
}

impl Compiler<'_> {
    // -- Completing descriptions.

    /// Gives back the register of the value if it is a temporary.
    pub(super) fn free_exp(&mut self, e: &Exp) {
        if let Val::Reg(reg) = e.val {
            self.free_reg(reg);
        }
    }

    /// Turns variables, fields and calls into a register or an open instruction.
    pub(super) fn discharge(&mut self, e: &mut Exp) -> Result<()> {
        let ins = match e.val {
            Val::Upvalue { index, .. } => Instr::ad(Op::UGET, 0, index),
            Val::Global(name) => Instr::ad(Op::GGET, 0, self.str_const(name)?),
            Val::Index { base, key } => {
                let ins = match key {
                    Key::Str(k) => Instr::abc(Op::TGETS, 0, base, k),
                    Key::Byte(k) => Instr::abc(Op::TGETB, 0, base, k),
                    Key::Reg(k) => {
                        self.free_reg(k);
                        Instr::abc(Op::TGETV, 0, base, k)
                    }
                };
                self.free_reg(base);
                ins
            }
            Val::Call { base, .. } => {
                e.val = Val::Reg(base);
                return Ok(());
            }
            Val::Local { reg, .. } => {
                e.val = Val::Reg(reg);
                return Ok(());
            }
            _ => return Ok(()),
        };
        e.val = Val::Open(self.emit(ins)?);
        Ok(())
    }

    /// Completes the value in `reg`, without regard to jumps.
    fn to_reg_no_jumps(&mut self, e: &mut Exp, reg: Reg) -> Result<()> {
        self.discharge(e)?;
        let ins = match e.val {
            Val::Str(id) => Instr::ad(Op::KSTR, reg, self.str_const(id)?),
            Val::Num(n) => match fold::as_i16(n) {
                Some(k) => Instr::ad(Op::KSHORT, reg, k),
                None => Instr::ad(Op::KNUM, reg, self.num_const(n)?),
            },
            Val::Cdata(literal) => {
                self.fs.flags |= protoflags::FFI;
                let k = self.add_kgc(match literal {
                    CdataLiteral::Int64(n) => KGc::Int64(n),
                    CdataLiteral::UInt64(n) => KGc::UInt64(n),
                    CdataLiteral::Complex(n) => KGc::Complex(n),
                })?;
                Instr::ad(Op::KCDATA, reg, k)
            }
            Val::Open(pc) => {
                let ins = &mut self.fs.code[pc as usize];
                *ins = ins.with_a(reg);
                e.val = Val::Reg(reg);
                return Ok(());
            }
            Val::Reg(from) => {
                if from == reg {
                    return Ok(());
                }
                Instr::ad(Op::MOV, reg, from)
            }
            Val::Nil if reg != NO_REG => {
                self.emit_nil(reg, 1)?;
                e.val = Val::Reg(reg);
                return Ok(());
            }
            Val::Nil | Val::False | Val::True => Instr::ad(Op::KPRI, reg, e.val.primitive()),
            _ => return Ok(()),
        };
        self.emit(ins)?;
        e.val = Val::Reg(reg);
        Ok(())
    }

    /// Completes the value in `reg`.
    pub(super) fn to_reg(&mut self, e: &mut Exp, reg: Reg) -> Result<()> {
        self.to_reg_no_jumps(e, reg)?;
        let mut is_jump = false;
        if let Val::Jump(list) = e.val {
            is_jump = true;
            e.t = self.join(e.t, list);
        }
        if e.has_jumps() {
            let (mut on_false, mut on_true) = (u32::MAX, u32::MAX);
            if self.some_without_value(e.t) || self.some_without_value(e.f) {
                let over = if is_jump { JumpList::NONE } else { self.jump()? };
                on_false = self.emit(Instr::ad(Op::KPRI, reg, 1))?;
                let free = self.fs.free;
                self.emit(Instr::aj(Op::JMP, free, 1))?;
                on_true = self.emit(Instr::ad(Op::KPRI, reg, 2))?;
                self.land_here(over);
            }
            let end = self.pc();
            self.fs.last_target = end;
            self.resolve_values(e.f, end, Some(reg), on_false)?;
            self.resolve_values(e.t, end, Some(reg), on_true)?;
        }
        *e = Exp::new(Val::Reg(reg));
        Ok(())
    }

    /// Completes the value in the next free register.
    pub(super) fn to_next_reg(&mut self, e: &mut Exp) -> Result<Reg> {
        self.discharge(e)?;
        self.free_exp(e);
        self.reserve(1)?;
        let reg = self.fs.free - 1;
        self.to_reg(e, reg)?;
        Ok(reg)
    }

    /// Completes the value in some register.
    pub(super) fn to_any_reg(&mut self, e: &mut Exp) -> Result<Reg> {
        self.discharge(e)?;
        if let Val::Reg(reg) = e.val {
            if !e.has_jumps() {
                return Ok(reg);
            }
            if reg >= self.fs.nactive {
                self.to_reg(e, reg)?;
                return Ok(reg);
            }
        }
        self.to_next_reg(e)
    }

    /// Leaves only a constant, a register or an open instruction.
    pub(super) fn to_value(&mut self, e: &mut Exp) -> Result<()> {
        if e.has_jumps() {
            self.to_any_reg(e)?;
        } else {
            self.discharge(e)?;
        }
        Ok(())
    }

    /// Makes `t` the description of `t[key]`. `t` is in a register, `key` a value.
    pub(super) fn index(&mut self, t: &mut Exp, key: &mut Exp) -> Result<()> {
        let Val::Reg(base) = t.val else { unreachable!("the table was put into a register") };
        let small = match key.val {
            Val::Num(n) => fold::as_u8(n).map(Key::Byte),
            Val::Str(id) => {
                let k = self.str_const(id)?;
                (k <= OPERAND_MAX).then_some(Key::Str(k))
            }
            _ => None,
        };
        let key = match small {
            Some(key) => key,
            None => Key::Reg(self.to_any_reg(key)?),
        };
        t.val = Val::Index { base, key };
        Ok(())
    }

    // -- Conditions.

    fn invert(&mut self, list: JumpList) {
        let at = self.first_jump(list) as usize - 1;
        let ins = self.fs.code[at];
        self.fs.code[at] = Instr(ins.0 ^ 1);
    }

    /// Emits a test that jumps when the value is `cond`.
    fn branch(&mut self, e: &mut Exp, cond: bool) -> Result<JumpList> {
        if let Val::Open(pc) = e.val {
            let ins = self.fs.code[pc as usize];
            if ins.op() == Op::NOT {
                self.fs.code[pc as usize] = Instr::ad(if cond { Op::ISF } else { Op::IST }, 0, ins.d());
                return self.jump();
            }
        }
        let reg = match e.val {
            Val::Reg(reg) => reg,
            _ => {
                self.reserve(1)?;
                let reg = self.fs.free - 1;
                self.to_reg_no_jumps(e, reg)?;
                reg
            }
        };
        self.emit(Instr::ad(if cond { Op::ISTC } else { Op::ISFC }, NO_REG, reg))?;
        let list = self.jump()?;
        self.free_exp(e);
        Ok(list)
    }

    /// Goes on if the value is true; its false jumps are left open.
    pub(super) fn branch_if_false(&mut self, e: &mut Exp) -> Result<()> {
        self.discharge(e)?;
        let list = match e.val {
            Val::Str(_) | Val::Num(_) | Val::Cdata(_) | Val::True => JumpList::NONE,
            Val::Jump(list) => {
                self.invert(list);
                list
            }
            Val::False | Val::Nil => {
                self.to_reg_no_jumps(e, NO_REG)?;
                self.jump()?
            }
            _ => self.branch(e, false)?,
        };
        e.f = self.join(e.f, list);
        self.land_here(e.t);
        e.t = JumpList::NONE;
        Ok(())
    }

    /// Goes on if the value is false; its true jumps are left open.
    fn branch_if_true(&mut self, e: &mut Exp) -> Result<()> {
        self.discharge(e)?;
        let list = match e.val {
            Val::Nil | Val::False => JumpList::NONE,
            Val::Jump(list) => list,
            Val::Str(_) | Val::Num(_) | Val::True => {
                self.to_reg_no_jumps(e, NO_REG)?;
                self.jump()?
            }
            _ => self.branch(e, true)?,
        };
        e.t = self.join(e.t, list);
        self.land_here(e.f);
        e.f = JumpList::NONE;
        Ok(())
    }

    /// A condition; returns the jumps taken when it does not hold.
    pub(super) fn condition(&mut self, id: ExprId) -> Result<JumpList> {
        let mut e = self.expr(id)?;
        if e.val == Val::Nil {
            e.val = Val::False;
        }
        self.branch_if_false(&mut e)?;
        Ok(e.f)
    }

    // -- The tree.

    /// Compiles an expression. Chains of left-associative operators are walked without recursion.
    pub(super) fn expr(&mut self, id: ExprId) -> Result<Exp> {
        let floor = self.spine.len();
        let mut first = id;
        while let ExprKind::Binary { lhs, .. } = self.ast.expr(first).kind {
            self.spine.push(first);
            first = lhs;
        }
        let mut e = self.operand(first)?;
        while self.spine.len() > floor {
            let Some(id) = self.spine.pop() else { break };
            if let ExprKind::Binary { op, op_tok, rhs, .. } = self.ast.expr(id).kind {
                self.place = op_tok;
                self.binary_left(op, &mut e)?;
                let mut right = self.expr(rhs)?;
                self.binary(op, &mut e, &mut right)?;
            }
        }
        Ok(e)
    }

    /// An expression that is no binary operation.
    fn operand(&mut self, id: ExprId) -> Result<Exp> {
        let node = self.ast.expr(id);
        let val = match node.kind {
            ExprKind::Nil => Val::Nil,
            ExprKind::True => Val::True,
            ExprKind::False => Val::False,
            ExprKind::Number(n) => Val::Num(n),
            ExprKind::Int64(n) => Val::Cdata(CdataLiteral::Int64(n)),
            ExprKind::UInt64(n) => Val::Cdata(CdataLiteral::UInt64(n)),
            ExprKind::Imag(n) => Val::Cdata(CdataLiteral::Complex(n)),
            ExprKind::Str(id) => Val::Str(id),
            ExprKind::Name(name) => {
                self.place = node.end;
                return self.variable(name);
            }
            ExprKind::Vararg => {
                self.place = node.end.saturating_sub(1);
                self.reserve(1)?;
                let base = self.fs.free - 1;
                let params = self.fs.numparams as u32;
                let pc = self.emit(Instr::abc(Op::VARG, base, 2, params))?;
                Val::Call { pc, base }
            }
            ExprKind::Function(func) => {
                let k = self.nested(func)?;
                let pc = self.emit(Instr::ad(Op::FNEW, 0, k))?;
                Val::Open(pc)
            }
            ExprKind::Paren(inner) => {
                let mut e = self.expr(inner)?;
                self.place = node.end;
                self.discharge(&mut e)?;
                return Ok(e);
            }
            ExprKind::Table { fields, open } => return self.table(fields, open, node.end),
            ExprKind::Unary { op, operand } => {
                let mut e = self.expr(operand)?;
                self.unary(op, &mut e)?;
                return Ok(e);
            }
            ExprKind::Conditional { cond, yes, no } => return self.conditional(cond, yes, no),
            ExprKind::Suffixed { base, suffixes } => return self.suffixed(base, suffixes),
            ExprKind::Binary { .. } => return self.expr(id),
        };
        self.place = node.end;
        Ok(Exp::new(val))
    }

    /// A variable by name.
    pub(super) fn variable(&mut self, name: StrId) -> Result<Exp> {
        Ok(Exp::new(match self.resolve(name)? {
            scope::Resolved::Local(reg, var) => Val::Local { reg, var },
            scope::Resolved::Upvalue(index, var) => Val::Upvalue { index, var },
            scope::Resolved::Global => Val::Global(name),
        }))
    }

    /// Expressions of a list, all but the last in consecutive registers. Returns the last.
    pub(super) fn expr_list(&mut self, list: List<ExprId>) -> Result<Exp> {
        let mut e = Exp::new(Val::Void);
        for (n, i) in list.range().enumerate() {
            if n > 0 {
                // The comma.
                self.place += 1;
                self.to_next_reg(&mut e)?;
            }
            e = self.expr(self.ast.expr_lists[i])?;
        }
        Ok(e)
    }

    // -- Operators.

    fn unary(&mut self, op: UnOp, e: &mut Exp) -> Result<()> {
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
                    e.val = Val::Num(!crate::value::number::to_bit(n) as f64);
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
    fn binary_left(&mut self, op: BinOp, e: &mut Exp) -> Result<()> {
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
    fn binary(&mut self, op: BinOp, a: &mut Exp, b: &mut Exp) -> Result<()> {
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

    pub(super) fn arith(&mut self, op: BinOp, a: &mut Exp, b: &mut Exp) -> Result<()> {
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
    fn conditional(&mut self, cond: ExprId, yes: ExprId, no: ExprId) -> Result<Exp> {
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

    // -- Table constructors.

    fn table(&mut self, fields: List<Field>, open: Tok, end: Tok) -> Result<Exp> {
        self.place = open.saturating_sub(1);
        let reg = self.fs.free;
        let pc = self.emit(Instr::ad(Op::TNEW, reg, 0))?;
        self.reserve(1)?;
        let first_free = reg + 1;
        self.place = open;
        let mut template: Option<Template> = None;
        let (mut narr, mut nhash) = (1u32, 0u32);
        let mut needs_array = false;
        // The last item is a call or `...` in array position.
        let mut open_ended = false;
        for i in fields.range() {
            let field = self.ast.fields[i];
            open_ended = false;
            let mut target = Exp::new(Val::Reg(reg));
            let mut key = match field.key {
                FieldKey::Expr(id) => {
                    let mut key = self.expr(id)?;
                    self.to_value(&mut key)?;
                    self.place += 1;
                    if !key.val.is_constant() {
                        self.index(&mut target, &mut key)?;
                    }
                    if key.val == Val::Num(0.0) {
                        needs_array = true;
                    } else {
                        nhash += 1;
                    }
                    // The `=`.
                    self.place += 1;
                    key
                }
                FieldKey::Name(name, tok) => {
                    self.place = tok + 1;
                    nhash += 1;
                    Exp::new(Val::Str(name))
                }
                FieldKey::Position => {
                    let key = Exp::new(Val::Num(narr as f64));
                    narr += 1;
                    needs_array = true;
                    open_ended = true;
                    key
                }
            };
            let mut value = self.expr(field.value)?;
            let constant = value.is_constant_value();
            let mut done = false;
            if key.val.is_constant() && key.val != Val::Nil && (matches!(key.val, Val::Str(_)) || constant) {
                open_ended = false;
                if template.is_none() {
                    let k = self.add_kgc(KGc::TableTemplate { array: Vec::new(), hash: Vec::new() })?;
                    self.fs.code[pc as usize] = Instr::ad(Op::TDUP, reg, k);
                    template = Some(Template { constant: k, items: Vec::new(), index: HashMap::new() });
                }
                if let Some(t) = &mut template {
                    // A key whose value is made later is reserved with nil.
                    t.set(key.val, if constant { value.val } else { Val::Nil });
                }
                done = constant;
            }
            if !done {
                if !matches!(value.val, Val::Call { .. }) {
                    self.to_any_reg(&mut value)?;
                    open_ended = false;
                }
                if key.val.is_constant() {
                    self.index(&mut target, &mut key)?;
                }
                self.store(&target, &mut value)?;
            }
            self.fs.free = first_free;
            self.place = field.end;
        }
        self.place = end;
        if open_ended {
            self.open_end(first_free, narr)?;
        }
        let result = if pc == self.pc() - 1 {
            self.fs.free -= 1;
            Val::Open(pc)
        } else {
            Val::Reg(reg)
        };
        match template {
            None => {
                let array = match narr {
                    _ if !needs_array => 0,
                    n if n < 3 => 3,
                    n => n.min(0x7ff),
                };
                let d = array | fold::hash_bits(nhash) << 11;
                self.fs.code[pc as usize] = self.fs.code[pc as usize].with_d(d);
            }
            Some(t) => {
                let array_size = if needs_array { narr } else { 0 };
                let at = t.constant as usize;
                self.fs.kgc[at] = t.finish(array_size, &self.ast.strings);
            }
        }
        Ok(Exp::new(result))
    }

    /// Turns the store of the last array item, the first value of an open-ended call, into a store
    /// of all its values.
    fn open_end(&mut self, reg: Reg, narr: u32) -> Result<()> {
        // Keys past 255 had to be loaded first; that load is between call and store.
        if narr - 1 > OPERAND_MAX {
            self.unemit();
        }
        let k = self.num_const(crate::bytecode::protodef::TSETM_BIAS + (narr - 1) as f64)?;
        let last = self.fs.code.len() - 1;
        self.fs.code[last] = Instr::ad(Op::TSETM, reg, k);
        self.fs.code[last - 1] = self.fs.code[last - 1].with_b(0);
        Ok(())
    }
}

/// The constant part of a table constructor.
struct Template {
    constant: u32,
    items: Vec<(Val, Val)>,
    index: HashMap<(u8, u64), usize>,
}

impl Template {
    fn set(&mut self, key: Val, value: Val) {
        let id = match key {
            Val::Num(n) => (0, n.to_bits()),
            Val::Str(s) => (1, s.0 as u64),
            _ => (2, key.primitive() as u64),
        };
        match self.index.entry(id) {
            std::collections::hash_map::Entry::Occupied(at) => self.items[*at.get()].1 = value,
            std::collections::hash_map::Entry::Vacant(at) => {
                at.insert(self.items.len());
                self.items.push((key, value));
            }
        }
    }

    fn finish(self, array_size: u32, strings: &StrPool) -> KGc {
        let constant = |v: Val| match v {
            Val::False => KVal::Bool(false),
            Val::True => KVal::Bool(true),
            Val::Num(n) => KVal::Num(n),
            Val::Str(id) => KVal::Str(strings.get(id).into()),
            _ => KVal::Nil,
        };
        let mut array = vec![KVal::Nil; array_size as usize];
        let mut hash = Vec::new();
        for (key, value) in self.items {
            match key {
                Val::Num(n) if n >= 0.0 && n < array_size as f64 && n.fract() == 0.0 => {
                    array[n as usize] = constant(value);
                }
                _ => hash.push((constant(key), constant(value))),
            }
        }
        KGc::TableTemplate { array, hash }
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
