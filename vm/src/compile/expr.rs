//! Expressions.
//!
//! An expression is first a description ([`Exp`]) of where its value is or what would make it. Only
//! when somebody needs it in a register, or as operand of an instruction, is the code completed.

use super::emit::OPERAND_MAX;
use super::*;
use crate::bytecode::instr::NO_REG;

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

    pub(super) fn is_constant(self) -> bool {
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

    pub(super) fn has_jumps(&self) -> bool {
        self.t != self.f
    }

    pub(super) fn is_constant_value(&self) -> bool {
        self.val.is_constant() && !self.has_jumps()
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self.val {
            Val::Num(n) if !self.has_jumps() => Some(n),
            _ => None,
        }
    }
}

// `to_reg` and its kin bring a value to a register and note that in its description.
#[allow(clippy::wrong_self_convention)]
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

    pub(super) fn invert(&mut self, list: JumpList) {
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
            Val::Str(_) | Val::Num(_) | Val::True => JumpList::NONE,
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
    pub(super) fn branch_if_true(&mut self, e: &mut Exp) -> Result<()> {
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
}
