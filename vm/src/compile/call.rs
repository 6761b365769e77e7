//! Indexing, calls and method calls.

use super::emit::OPERAND_MAX;
use super::expr::{Exp, Val};
use super::*;

/// Registers between a function and its first argument: the frame takes two.
const FRAME_SLOTS: u32 = 2;

impl Compiler<'_> {
    /// A name or parenthesised expression with its suffixes.
    pub(super) fn suffixed(&mut self, base: ExprId, suffixes: List<Suffix>) -> Result<Exp> {
        let mut e = self.expr(base)?;
        for i in suffixes.range() {
            let suffix = self.ast.suffixes[i];
            self.place_dot(&suffix);
            let skip = if suffix.safe { self.jump_if_nil(&mut e)? } else { JumpList::NONE };
            self.suffix(&mut e, &suffix, skip)?;
        }
        Ok(e)
    }

    /// Emits a jump that is taken when the value is nil; it is in a register then.
    pub(super) fn jump_if_nil(&mut self, e: &mut Exp) -> Result<JumpList> {
        let reg = self.to_any_reg(e)?;
        self.emit(Instr::ad(Op::ISEQP, reg, 0))?;
        self.jump()
    }

    /// What a dot looks into is finished on the line of the dot.
    fn place_dot(&mut self, suffix: &Suffix) {
        if suffix.safe || matches!(suffix.kind, SuffixKind::Field(_)) {
            self.place = suffix.start;
        }
    }

    /// Applies one suffix. The jumps of `skip` arrive behind it, where the result is nil for them.
    fn suffix(&mut self, e: &mut Exp, suffix: &Suffix, skip: JumpList) -> Result<()> {
        let mut skip = skip;
        match suffix.kind {
            SuffixKind::Field(_) | SuffixKind::Index(_) => self.field_or_index(e, suffix)?,
            SuffixKind::Call(args) => {
                self.to_next_reg(e)?;
                self.reserve(FRAME_SLOTS - 1)?;
                self.call_args(e, args, suffix.end)?;
            }
            SuffixKind::Method { name, name_tok, safe, args } => {
                self.place = name_tok;
                self.method(e, name)?;
                if safe {
                    let no_method = self.jump_if_nil(e)?;
                    skip = self.join(skip, no_method);
                }
                self.call_args(e, args, suffix.end)?;
            }
        }
        if !skip.is_none() {
            self.discharge(e)?;
            let reg = match e.val {
                Val::Reg(reg) => reg,
                _ => self.to_next_reg(e)?,
            };
            let over = self.jump()?;
            self.land_here(skip);
            self.emit(Instr::ad(Op::KPRI, reg, 0))?;
            self.land_here(over);
        }
        Ok(())
    }

    /// `.name` or `[key]`, left as a description.
    fn field_or_index(&mut self, e: &mut Exp, suffix: &Suffix) -> Result<()> {
        self.to_any_reg(e)?;
        match suffix.kind {
            SuffixKind::Field(name) => {
                self.place = suffix.end;
                self.index(e, &mut Exp::new(Val::Str(name)))
            }
            SuffixKind::Index(key) => {
                let mut key = self.expr(key)?;
                self.to_value(&mut key)?;
                self.place = suffix.end;
                self.index(e, &mut key)
            }
            _ => Ok(()),
        }
    }

    /// Loads the method `name` of the object and the object itself where a call wants them.
    fn method(&mut self, e: &mut Exp, name: StrId) -> Result<()> {
        let object = self.to_any_reg(e)?;
        self.free_exp(e);
        let func = self.fs.free;
        let this = func + FRAME_SLOTS;
        self.emit(Instr::ad(Op::MOV, this, object))?;
        let k = self.str_const(name)?;
        if k <= OPERAND_MAX {
            self.reserve(FRAME_SLOTS + 1)?;
            self.emit(Instr::abc(Op::TGETS, func, object, k))?;
        } else {
            self.reserve(FRAME_SLOTS + 2)?;
            self.emit(Instr::ad(Op::KSTR, this + 1, k))?;
            self.emit(Instr::abc(Op::TGETV, func, object, this + 1))?;
            self.fs.free -= 1;
        }
        *e = Exp::new(Val::Reg(func));
        Ok(())
    }

    /// Arguments and call of the function in `e`'s register.
    fn call_args(&mut self, e: &mut Exp, args: Args, end: Tok) -> Result<()> {
        let Val::Reg(base) = e.val else { unreachable!("the function was put into a register") };
        let line = self.ast.line(args.open);
        self.place = args.open;
        let mut last = self.expr_list(args.list)?;
        self.place = end;
        let ins = if let Val::Call { pc, base: first } = last.val {
            self.fs.code[pc as usize] = self.fs.code[pc as usize].with_b(0);
            Instr::abc(Op::CALLM, base, 2, first - base - FRAME_SLOTS)
        } else {
            if last.val != Val::Void {
                self.to_next_reg(&mut last)?;
            }
            Instr::abc(Op::CALL, base, 2, self.fs.free - base - FRAME_SLOTS + 1)
        };
        let pc = self.emit(ins)?;
        self.fs.lines[pc as usize] = line;
        *e = Exp::new(Val::Call { pc, base });
        // One result, unless somebody asks for more.
        self.fs.free = base + 1;
        Ok(())
    }

    /// The target of an assignment: all suffixes but the last are evaluated. For `?.` the second
    /// value is the register to test.
    pub(super) fn target(&mut self, id: ExprId) -> Result<(Exp, Option<Reg>)> {
        let ExprKind::Suffixed { base, suffixes } = self.ast.expr(id).kind else {
            let e = self.expr(id)?;
            self.check_const(&e)?;
            return Ok((e, None));
        };
        let init = List::first(suffixes, suffixes.len - 1);
        let mut e = if init.len == 0 { self.expr(base)? } else { self.suffixed(base, init)? };
        let last = self.ast.suffixes[suffixes.range().end - 1];
        self.place_dot(&last);
        let tested = if last.safe { Some(self.to_any_reg(&mut e)?) } else { None };
        self.field_or_index(&mut e, &last)?;
        Ok((e, tested))
    }

    /// Refuses assignment to a `const`.
    fn check_const(&self, e: &Exp) -> Result<()> {
        if let Val::Local { var, .. } | Val::Upvalue { var, .. } = e.val {
            let var = &self.vars[var.0 as usize];
            if var.is_const {
                return Err(self.const_error("assign to", var.name));
            }
        }
        Ok(())
    }
}
