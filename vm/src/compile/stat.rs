//! Statements.

use super::expr::{Exp, Key, Val};
use super::scope::LabelName;
use super::*;

impl Compiler<'_> {
    /// A block in a scope of its own.
    fn block(&mut self, block: Block) -> Result<()> {
        self.scope_begin(scope::PLAIN);
        self.block_body(block)?;
        self.scope_end()
    }

    /// The statements of a block.
    pub(super) fn block_body(&mut self, block: Block) -> Result<()> {
        for i in block.stats.range() {
            let stat = self.ast.stats[i];
            self.statement(&stat)?;
            self.place = stat.next;
            self.fs.free = self.fs.nactive;
        }
        Ok(())
    }

    fn statement(&mut self, stat: &Stat) -> Result<()> {
        self.place = stat.start;
        let line = self.ast.line(stat.start);
        match stat.kind {
            StatKind::Empty => {}
            StatKind::Local { names, names_end, exprs, is_const } => {
                self.local(names, names_end, exprs, is_const)?
            }
            StatKind::LocalFunction { name, name_tok, func, is_const } => {
                self.place = name_tok;
                self.declare(0, name, is_const)?;
                let reg = self.fs.free;
                self.reserve(1)?;
                self.activate(1);
                let k = self.nested(func)?;
                self.emit(Instr::ad(Op::FNEW, reg, k))?;
                // The function sees the local, but it is valid only now.
                self.restart_newest();
            }
            StatKind::Function { target, func } => {
                let (target, _) = self.target(target)?;
                let k = self.nested(func)?;
                let mut e = Exp::new(Val::Open(self.emit(Instr::ad(Op::FNEW, 0, k))?));
                self.store(&target, &mut e)?;
                let last = self.fs.lines.len() - 1;
                self.fs.lines[last] = line;
            }
            StatKind::Assign { targets, exprs } => self.assign(targets, exprs)?,
            StatKind::Compound { target, op, op_tok, value } => self.compound(target, op, op_tok, value)?,
            StatKind::Call(id) => {
                let e = self.expr(id)?;
                if let Val::Call { pc, .. } = e.val {
                    self.fs.code[pc as usize] = self.fs.code[pc as usize].with_b(1);
                }
            }
            StatKind::Do(body) => {
                self.block(body)?;
                self.place = stat.end;
            }
            StatKind::While { cond, body } => {
                let start = self.pc();
                self.fs.last_target = start;
                let exit = self.condition(cond)?;
                self.scope_begin(scope::LOOP);
                self.place += 1;
                let nactive = self.fs.nactive;
                let head = self.emit(Instr::ad(Op::LOOP, nactive, 0))?;
                self.block(body)?;
                self.continue_label()?;
                let back = self.jump()?;
                self.land(back, start)?;
                self.place = stat.end;
                self.scope_end()?;
                self.land_here(exit);
                self.set_target(head, self.pc())?;
            }
            StatKind::Repeat { body, cond, until } => self.repeat(body, cond, until)?,
            StatKind::If { arms, otherwise } => {
                let mut escape = JumpList::NONE;
                let range = arms.range();
                let last = range.end - 1;
                for i in range {
                    let arm = self.ast.arms[i];
                    let over = self.condition(arm.cond)?;
                    self.place += 1;
                    self.block(arm.body)?;
                    self.place = arm.end;
                    if i < last || otherwise.is_some() {
                        let out = self.jump()?;
                        escape = self.join(escape, out);
                        self.land_here(over);
                        self.place += 1;
                    } else {
                        escape = self.join(escape, over);
                    }
                }
                if let Some(body) = otherwise {
                    self.block(body)?;
                }
                self.land_here(escape);
                self.place = stat.end;
            }
            StatKind::ForNum { var, var_tok, range, body } => {
                self.scope_begin(scope::LOOP);
                self.for_num(var, var_tok, range, body, line)?;
                self.place = stat.end;
                self.scope_end()?;
            }
            StatKind::ForIn { names, names_start, exprs, exprs_start, body } => {
                self.scope_begin(scope::LOOP);
                self.for_in(names, names_start, exprs, exprs_start, body)?;
                self.place = stat.end;
                self.scope_end()?;
            }
            StatKind::Return(exprs) => self.return_values(exprs)?,
            StatKind::Break => self.goto(LabelName::Break)?,
            StatKind::Continue => self.goto(LabelName::Continue)?,
            StatKind::Goto(name) => {
                self.place = stat.end;
                self.goto(LabelName::Named(name))?;
            }
            StatKind::Label { name, is_last } => {
                self.place = stat.end;
                self.label(name, is_last)?;
            }
        }
        Ok(())
    }

    // -- Declarations and assignments.

    fn local(
        &mut self,
        names: List<StrId>,
        names_end: Tok,
        exprs: List<ExprId>,
        is_const: bool,
    ) -> Result<()> {
        self.place = names_end - 2 * (names.len - 1);
        for (n, i) in names.range().enumerate() {
            self.declare(n as u32, self.ast.name_lists[i], is_const)?;
            self.place += 2;
        }
        self.place = names_end;
        if exprs.len > 0 {
            self.place += 1;
        }
        let mut e = self.expr_list(exprs)?;
        self.adjust(names.len, exprs.len, &mut e)?;
        self.activate(names.len);
        Ok(())
    }

    /// Makes `have` values (the last one in `e`) fill `want` registers.
    fn adjust(&mut self, want: u32, have: u32, e: &mut Exp) -> Result<()> {
        if let Val::Call { pc, .. } = e.val {
            // The call itself gives what is missing, maybe nothing.
            let results = (want + 1).saturating_sub(have);
            self.fs.code[pc as usize] = self.fs.code[pc as usize].with_b(results + 1);
            if results > 1 {
                self.reserve(results - 1)?;
            }
        } else {
            if e.val != Val::Void {
                self.to_next_reg(e)?;
            }
            if want > have {
                let reg = self.fs.free;
                self.reserve(want - have)?;
                self.emit_nil(reg, want - have)?;
            }
        }
        if have > want {
            self.fs.free -= have - want;
        }
        Ok(())
    }

    fn assign(&mut self, targets: List<ExprId>, exprs: List<ExprId>) -> Result<()> {
        let mut list: Vec<(Exp, Option<Reg>)> = Vec::with_capacity(targets.len as usize);
        for i in targets.range() {
            let target = self.target(self.ast.expr_lists[i])?;
            if let Val::Local { reg, .. } = target.0.val {
                self.keep_operands(&mut list, reg)?;
            }
            list.push(target);
            // The comma, or the `=`.
            self.place += 1;
        }
        // A single `a?.b = v` does not evaluate `v` when `a` is nil.
        let mut skip = JumpList::NONE;
        if let [(_, tested)] = &mut list[..]
            && let Some(reg) = tested.take()
        {
            self.emit(Instr::ad(Op::ISEQP, reg, 0))?;
            skip = self.jump()?;
        }
        let mut e = self.expr_list(exprs)?;
        if exprs.len == targets.len {
            if let Val::Call { pc, base } = e.val {
                if self.fs.code[pc as usize].op() == Op::VARG {
                    self.fs.free -= 1;
                    e.val = Val::Open(pc);
                } else {
                    e.val = Val::Reg(base);
                }
            }
            if let Some((target, tested)) = list.pop() {
                self.store_tested(&target, tested, &mut e)?;
            }
        } else {
            self.adjust(targets.len, exprs.len, &mut e)?;
        }
        while let Some((target, tested)) = list.pop() {
            let mut e = Exp::new(Val::Reg(self.fs.free - 1));
            self.store_tested(&target, tested, &mut e)?;
        }
        if !skip.is_none() {
            self.land_here(skip);
        }
        Ok(())
    }

    /// Stores, unless the register under test holds nil.
    fn store_tested(&mut self, target: &Exp, tested: Option<Reg>, e: &mut Exp) -> Result<()> {
        let Some(tested) = tested else { return self.store(target, e) };
        self.to_any_reg(e)?;
        self.emit(Instr::ad(Op::ISEQP, tested, 0))?;
        let skip = self.jump()?;
        self.store(target, e)?;
        self.land_here(skip);
        Ok(())
    }

    /// A local is assigned in the same statement in which earlier targets use it as table or key:
    /// lets those use a copy.
    fn keep_operands(&mut self, list: &mut [(Exp, Option<Reg>)], reg: Reg) -> Result<()> {
        let copy = self.fs.free;
        let mut used = false;
        for (e, tested) in list {
            if let Val::Index { base, key } = &mut e.val {
                if *base == reg {
                    used = true;
                    *base = copy;
                }
                if *key == Key::Reg(reg) {
                    used = true;
                    *key = Key::Reg(copy);
                }
            }
            if *tested == Some(reg) {
                *tested = Some(copy);
            }
        }
        if used {
            self.emit(Instr::ad(Op::MOV, copy, reg))?;
            self.reserve(1)?;
        }
        Ok(())
    }

    /// `target op= value`; table and key are evaluated once.
    fn compound(&mut self, target: ExprId, op: BinOp, op_tok: Tok, value: ExprId) -> Result<()> {
        let (target, tested) = self.target(target)?;
        self.place = op_tok;
        let mut skip = JumpList::NONE;
        if let Some(reg) = tested {
            self.emit(Instr::ad(Op::ISEQP, reg, 0))?;
            skip = self.jump()?;
        }
        let mut e = target;
        if let Val::Index { base, key } = target.val {
            let ins = match key {
                Key::Str(k) => Instr::abc(Op::TGETS, 0, base, k),
                Key::Byte(k) => Instr::abc(Op::TGETB, 0, base, k),
                Key::Reg(k) => Instr::abc(Op::TGETV, 0, base, k),
            };
            e.val = Val::Open(self.emit(ins)?);
        }
        self.operate(op, &mut e, value)?;
        self.store(&target, &mut e)?;
        if !skip.is_none() {
            self.land_here(skip);
        }
        Ok(())
    }

    // -- Loops.

    fn repeat(&mut self, body: Block, cond: ExprId, until: Tok) -> Result<()> {
        let start = self.pc();
        self.fs.last_target = start;
        self.scope_begin(scope::LOOP);
        self.scope_begin(scope::PLAIN);
        let nactive = self.fs.nactive;
        let head = self.emit(Instr::ad(Op::LOOP, nactive, 0))?;
        self.block_body(body)?;
        self.place = until;
        self.continue_label()?;
        let mut again = self.condition(cond)?;
        if *self.scope_flags() & scope::UPVAL == 0 {
            self.scope_end()?;
        } else {
            // Both ways out of the body close upvalues.
            self.goto(LabelName::Break)?;
            self.land_here(again);
            self.scope_end()?;
            again = self.jump()?;
        }
        self.land(again, start)?;
        self.set_target(head, self.pc())?;
        self.scope_end()
    }

    fn for_num(
        &mut self,
        var: StrId,
        var_tok: Tok,
        range: List<ExprId>,
        body: Block,
        line: u32,
    ) -> Result<()> {
        let base = self.fs.free;
        self.place = var_tok;
        for (n, name) in self.names.for_num.into_iter().enumerate() {
            self.declare(n as u32, name, false)?;
        }
        self.declare(3, var, false)?;
        self.place += 1;
        for i in range.range() {
            let mut e = self.expr(self.ast.expr_lists[i])?;
            self.to_next_reg(&mut e)?;
            // The comma, or the `do`.
            self.place += 1;
        }
        if range.len == 2 {
            self.place -= 1;
            self.emit(Instr::ad(Op::KSHORT, self.fs.free, 1))?;
            self.reserve(1)?;
            self.place += 1;
        }
        self.activate(3);
        let head = self.emit(Instr::aj(Op::FORI, base, 0))?;
        self.scope_begin(scope::PLAIN);
        self.activate(1);
        self.reserve(1)?;
        self.block(body)?;
        self.scope_end()?;
        self.continue_label()?;
        let back = self.emit(Instr::aj(Op::FORL, base, 0))?;
        self.fs.lines[back as usize] = line;
        self.set_target(back, head + 1)?;
        self.set_target(head, self.pc())
    }

    fn for_in(
        &mut self,
        names: List<StrId>,
        names_start: Tok,
        exprs: List<ExprId>,
        exprs_start: Tok,
        body: Block,
    ) -> Result<()> {
        let base = self.fs.free + 3;
        let first_pc = self.pc();
        self.place = names_start;
        for (n, name) in self.names.for_in.into_iter().enumerate() {
            self.declare(n as u32, name, false)?;
        }
        for (n, i) in names.range().enumerate() {
            self.declare(3 + n as u32, self.ast.name_lists[i], false)?;
            self.place += 2;
        }
        let line = self.ast.line(exprs_start);
        self.place = exprs_start - 1;
        let mut e = self.expr_list(exprs)?;
        self.adjust(3, exprs.len, &mut e)?;
        // The call of the iterator needs room for function, frame, state and control.
        self.bump(4)?;
        let is_next = names.len <= 2 && self.looks_like_next(first_pc);
        self.activate(3);
        self.place += 1;
        let head = self.emit(Instr::aj(if is_next { Op::ISNEXT } else { Op::JMP }, base, 0))?;
        self.scope_begin(scope::PLAIN);
        self.activate(names.len);
        self.reserve(names.len)?;
        self.block(body)?;
        self.scope_end()?;
        self.continue_label()?;
        self.set_target(head, self.pc())?;
        let call = if is_next { Op::ITERN } else { Op::ITERC };
        let call = self.emit(Instr::abc(call, base, names.len + 1, 2 + 1))?;
        let back = self.emit(Instr::aj(Op::ITERL, base, 0))?;
        self.fs.lines[call as usize] = line;
        self.fs.lines[back as usize] = line;
        self.set_target(back, head + 1)
    }

    /// Guesses from its first instruction that an iterator expression is `next` or `pairs(t)`.
    fn looks_like_next(&self, pc: Pc) -> bool {
        let Some(ins) = self.fs.code.get(pc as usize) else { return false };
        let is = |name: StrId| name == self.names.pairs || name == self.names.next;
        match ins.op() {
            Op::MOV if ins.d() < self.fs.nactive => is(self.vars[self.var_at(ins.d()).0 as usize].name),
            Op::UGET => {
                let var = self.fs.upvals[ins.d() as usize].var;
                is(self.vars[var.0 as usize].name)
            }
            Op::GGET => [self.names.pairs, self.names.next]
                .iter()
                .any(|name| self.fs.kstr_index.get(name) == Some(&ins.d())),
            _ => false,
        }
    }

    // -- Returns.

    fn return_values(&mut self, exprs: List<ExprId>) -> Result<()> {
        self.fs.has_return = true;
        let nactive = self.fs.nactive;
        let mut e = self.expr_list(exprs)?;
        let ins = match (exprs.len, e.val) {
            (0, _) => Instr::ad(Op::RET0, 0, 1),
            (1, Val::Call { pc, .. }) if self.fs.code[pc as usize].op() != Op::VARG => {
                // A tail call.
                let call = self.fs.code[pc as usize];
                self.unemit();
                let op = if call.op() == Op::CALLM { Op::CALLMT } else { Op::CALLT };
                Instr::ad(op, call.a(), call.c())
            }
            (_, Val::Call { pc, base }) => {
                self.fs.code[pc as usize] = self.fs.code[pc as usize].with_b(0);
                Instr::ad(Op::RETM, nactive, base - nactive)
            }
            (1, _) => Instr::ad(Op::RET1, self.to_any_reg(&mut e)?, 2),
            (n, _) => {
                self.to_next_reg(&mut e)?;
                Instr::ad(Op::RET, nactive, n + 1)
            }
        };
        if self.fs.flags & protoflags::CHILD != 0 {
            self.emit(Instr::aj(Op::UCLO, 0, 0))?;
        }
        self.emit(ins)?;
        Ok(())
    }
}
