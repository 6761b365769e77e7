//! Variables, scopes, labels and gotos.

use super::*;
use crate::limits::{LOCALS_MAX, UPVALUES_MAX, UPVALUES_MAX_COMPAT52};

/// A variable of the chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct VarId(pub(super) u32);

/// What is known of a local variable.
pub(super) struct Variable {
    pub(super) name: StrId,
    pub(super) slot: u8,
    pub(super) startpc: Pc,
    pub(super) endpc: Pc,
    /// Assigned after its declaration.
    pub(super) assigned: bool,
    /// Declared by `const`.
    pub(super) is_const: bool,
}

/// An upvalue.
#[derive(Clone, Copy)]
pub(super) struct Captured {
    /// The variable it is in the end.
    pub(super) var: VarId,
    /// Where the enclosing function has it.
    pub(super) from: From,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// In a register of the enclosing function.
    Local(VarId),
    /// In an upvalue of it.
    Upvalue(u32),
}

/// What a name means.
pub(super) enum Resolved {
    Local(Reg, VarId),
    Upvalue(u32, VarId),
    Global,
}

/// A scope of the function.
pub(super) struct Scope {
    nactive: u32,
    pub(super) flags: u8,
    /// First entry of [`FuncState::gotos`] that belongs to it.
    first_goto: usize,
    /// First entry of [`FuncState::label_names`] that belongs to it.
    first_label: usize,
}

/// Nothing special.
pub(super) const PLAIN: u8 = 0;
/// A loop: `break` ends here.
pub(super) const LOOP: u8 = 1;
/// Holds a `break`.
pub(super) const BREAK: u8 = 2;
/// Holds a `goto`, `continue` or label.
pub(super) const GOTO: u8 = 4;
/// Some local of it is an upvalue of a closure.
pub(super) const UPVAL: u8 = 8;
/// Upvalues need not be closed at its end.
pub(super) const NOCLOSE: u8 = 16;

/// Names of labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum LabelName {
    /// The end of the loop.
    Break,
    /// The end of the loop's body.
    Continue,
    /// A written label.
    Named(StrId),
}

/// A jump that waits for its label.
#[derive(Clone, Copy)]
pub(super) struct Goto {
    name: LabelName,
    /// Active locals.
    slot: u32,
    list: JumpList,
}

/// A written label.
#[derive(Clone, Copy)]
pub(super) struct Label {
    /// Active locals.
    slot: u32,
    pc: Pc,
}

/// Variables, labels and gotos of the functions being compiled, and upvalues of one function.
const ENTRIES_MAX: usize = 65536;

impl Compiler<'_> {
    // -- Variables.

    /// Declares the `n`-th local of a declaration; it is not active yet.
    pub(super) fn declare(&mut self, n: u32, name: StrId, is_const: bool) -> Result<()> {
        let slot = (self.fs.nactive + n) as usize;
        self.check_limit(slot, LOCALS_MAX, "local variables")?;
        self.any_const |= is_const;
        if self.any_const && self.const_in_scope(name) {
            return Err(self.const_error("re-declare", name));
        }
        self.count_entry()?;
        let id = VarId(self.vars.len() as u32);
        self.vars.push(Variable { name, slot: slot as u8, startpc: 0, endpc: 0, assigned: false, is_const });
        self.fs.slots.truncate(slot);
        self.fs.slots.push(id);
        self.fs.declared.push(id);
        Ok(())
    }

    /// Counts a variable, label or goto of the functions being compiled.
    fn count_entry(&mut self) -> Result<()> {
        let limit = ENTRIES_MAX - self.upvalues_max();
        if self.entries >= limit {
            let text = format!("chunk has more than {limit} local variables");
            return Err(self.error_on(self.ast.line(self.place + 1), text.as_bytes()));
        }
        self.entries += 1;
        Ok(())
    }

    fn upvalues_max(&self) -> usize {
        if self.options.compat52 { UPVALUES_MAX_COMPAT52 } else { UPVALUES_MAX }
    }

    fn const_in_scope(&self, name: StrId) -> bool {
        let active = |fs: &FuncState| {
            fs.slots
                .iter()
                .rev()
                .map(|v| &self.vars[v.0 as usize])
                .find(|v| v.name == name)
                .map(|v| v.is_const)
        };
        std::iter::once(&self.fs).chain(self.outer.iter().rev()).find_map(active).unwrap_or(false)
    }

    pub(super) fn const_error(&self, verb: &str, name: StrId) -> Box<SyntaxError> {
        let mut text = format!("attempt to {verb} const variable '").into_bytes();
        text.extend_from_slice(self.ast.strings.get(name));
        text.push(b'\'');
        self.error_on(self.ast.line(self.place + 1), &text)
    }

    /// Activates the next `n` declared locals.
    pub(super) fn activate(&mut self, n: u32) {
        let pc = self.pc();
        for _ in 0..n {
            let id = self.fs.slots[self.fs.nactive as usize];
            self.vars[id.0 as usize].startpc = pc;
            self.fs.nactive += 1;
        }
    }

    /// Sets the start of the newest local to the next instruction.
    pub(super) fn restart_newest(&mut self) {
        let id = self.fs.slots[self.fs.nactive as usize - 1];
        self.vars[id.0 as usize].startpc = self.pc();
    }

    /// The variable in an active register.
    pub(super) fn var_at(&self, reg: Reg) -> VarId {
        self.fs.slots[reg as usize]
    }

    /// Looks a name up.
    pub(super) fn resolve(&mut self, name: StrId) -> Result<Resolved> {
        let depth = self.outer.len();
        if let Some((reg, var)) = self.find_local(depth, name) {
            return Ok(Resolved::Local(reg, var));
        }
        let found = (0..depth).rev().find_map(|l| self.find_local(l, name).map(|(reg, var)| (l, reg, var)));
        let Some((home, reg, var)) = found else { return Ok(Resolved::Global) };
        self.mark_captured(home, reg);
        // Each function on the way captures it from the one around.
        let mut index = self.capture(home + 1, var, From::Local(var))?;
        for level in home + 2..=depth {
            index = self.capture(level, var, From::Upvalue(index))?;
        }
        Ok(Resolved::Upvalue(index, var))
    }

    /// The function at a nesting depth.
    fn func(&self, level: usize) -> &FuncState {
        self.outer.get(level).unwrap_or(&self.fs)
    }

    fn func_mut(&mut self, level: usize) -> &mut FuncState {
        self.outer.get_mut(level).unwrap_or(&mut self.fs)
    }

    fn find_local(&self, level: usize, name: StrId) -> Option<(Reg, VarId)> {
        let fs = self.func(level);
        let active = &fs.slots[..fs.nactive as usize];
        let reg = active.iter().rposition(|v| self.vars[v.0 as usize].name == name)?;
        Some((reg as Reg, active[reg]))
    }

    fn capture(&mut self, level: usize, var: VarId, from: From) -> Result<u32> {
        let count = self.func(level).upvals.len();
        if let Some(at) = self.func(level).upvals.iter().position(|c| c.var == var) {
            return Ok(at as u32);
        }
        let limit = self.upvalues_max();
        if count >= limit {
            let line = self.func(level).firstline;
            let text = match line {
                0 => format!("main function has more than {limit} upvalues"),
                line => format!("function at line {line} has more than {limit} upvalues"),
            };
            return Err(self.error_on(self.ast.line(self.place + 1), text.as_bytes()));
        }
        self.func_mut(level).upvals.push(Captured { var, from });
        Ok(count as u32)
    }

    /// Notes in the scope that declared register `reg` that a closure holds it.
    fn mark_captured(&mut self, level: usize, reg: Reg) {
        let scopes = &mut self.func_mut(level).scopes;
        if let Some(scope) = scopes.iter_mut().rev().find(|s| s.nactive <= reg) {
            scope.flags |= UPVAL;
        }
    }

    // -- Scopes.

    pub(super) fn scope_begin(&mut self, flags: u8) {
        self.fs.scopes.push(Scope {
            nactive: self.fs.nactive,
            flags,
            first_goto: self.fs.gotos.len(),
            first_label: self.fs.label_names.len(),
        });
    }

    /// Flags of the innermost scope.
    pub(super) fn scope_flags(&mut self) -> &mut u8 {
        &mut self.fs.scopes.last_mut().expect("every function has a scope").flags
    }

    /// Ends the innermost scope: its locals, its labels, breaks that end here.
    pub(super) fn scope_end(&mut self) -> Result<()> {
        let scope = self.fs.scopes.pop().expect("scopes are balanced");
        let pc = self.pc();
        while self.fs.nactive > scope.nactive {
            self.fs.nactive -= 1;
            let id = self.fs.slots[self.fs.nactive as usize];
            self.vars[id.0 as usize].endpc = pc;
        }
        self.fs.slots.truncate(scope.nactive as usize);
        self.fs.free = scope.nactive;
        if scope.flags & (UPVAL | NOCLOSE) == UPVAL {
            self.emit(Instr::aj(Op::UCLO, scope.nactive, 0))?;
        }
        if scope.flags & BREAK != 0 {
            if scope.flags & LOOP == 0 {
                return self.end_gotos(&scope);
            }
            let pc = self.pc();
            self.resolve_label(scope.first_goto, LabelName::Break, self.fs.nactive, pc)?;
        }
        if scope.flags & GOTO != 0 {
            self.end_gotos(&scope)?;
        }
        Ok(())
    }

    // -- Labels and gotos.

    /// Emits a jump to a label.
    pub(super) fn goto(&mut self, name: LabelName) -> Result<()> {
        let depths = (1..=self.fs.scopes.len()).rev();
        if let Some(label) = depths.filter_map(|d| self.fs.labels.get(&(d, name))).next() {
            // Backwards: a loop. Out of an inner scope, too, unlike LuaJIT: no loop is without a look at the limits.
            let slot = label.slot;
            self.emit(Instr::aj(Op::LOOP, slot, -1))?;
        }
        *self.scope_flags() |= if name == LabelName::Break { BREAK } else { GOTO };
        self.count_entry()?;
        let list = self.jump()?;
        self.fs.gotos.push(Goto { name, slot: self.fs.nactive, list });
        *self.fs.waiting.entry(name).or_default() += 1;
        Ok(())
    }

    /// A label of the innermost scope.
    fn find_label(&self, name: LabelName) -> Option<Label> {
        self.fs.labels.get(&(self.fs.scopes.len(), name)).copied()
    }

    /// Places a written label here.
    pub(super) fn label(&mut self, name: StrId, is_last: bool) -> Result<()> {
        let pc = self.pc();
        self.fs.last_target = pc;
        *self.scope_flags() |= GOTO;
        let label = LabelName::Named(name);
        if self.find_label(label).is_some() {
            let text = [b"duplicate label '", self.ast.strings.get(name), b"'"].concat();
            return Err(self.error_on(self.ast.line(self.place), &text));
        }
        self.count_entry()?;
        let depth = self.fs.scopes.len();
        let scope = &self.fs.scopes[depth - 1];
        // A label at the end is outside the scope of the block's locals.
        let slot = if is_last { scope.nactive } else { self.fs.nactive };
        let first_goto = scope.first_goto;
        self.fs.labels.insert((depth, label), Label { slot, pc });
        self.fs.label_names.push(label);
        self.resolve_label(first_goto, label, slot, pc)
    }

    /// Sends `continue`s of the innermost scope here.
    pub(super) fn continue_label(&mut self) -> Result<()> {
        let Some(scope) = self.fs.scopes.last() else { return Ok(()) };
        let first_goto = scope.first_goto;
        let pc = self.pc();
        self.resolve_label(first_goto, LabelName::Continue, self.fs.nactive, pc)
    }

    /// Sends the waiting jumps from number `first` on to a label.
    fn resolve_label(&mut self, first: usize, name: LabelName, slot: u32, pc: Pc) -> Result<()> {
        if self.fs.waiting.get(&name).is_none_or(|n| *n == 0) {
            return Ok(());
        }
        let mut kept = first;
        for i in first..self.fs.gotos.len() {
            let goto = self.fs.gotos[i];
            if goto.name != name {
                self.fs.gotos[kept] = goto;
                kept += 1;
                continue;
            }
            if goto.slot < slot {
                return Err(self.scope_error(&goto));
            }
            self.patch_goto(goto, slot, pc)?;
        }
        self.fs.gotos.truncate(kept);
        Ok(())
    }

    /// A jump would enter the scope of the local that was declared next after it.
    fn scope_error(&self, goto: &Goto) -> Box<SyntaxError> {
        let local = self.vars[self.var_at(goto.slot).0 as usize].name;
        let (prefix, shown): (&[u8], &[u8]) = match goto.name {
            LabelName::Named(name) => (b"<goto ", self.ast.strings.get(name)),
            LabelName::Continue => (b"<", b"continue"),
            LabelName::Break => (b"<", b"break"),
        };
        let local = self.ast.strings.get(local);
        let text = [prefix, shown, b"> jumps into the scope of local '", local, b"'"].concat();
        self.error_on(self.jump_line(goto.list), &text)
    }

    fn jump_line(&self, list: JumpList) -> u32 {
        self.fs.lines[self.first_jump(list) as usize]
    }

    /// Sends a jump to its label.
    fn patch_goto(&mut self, goto: Goto, slot: u32, pc: Pc) -> Result<()> {
        if let Some(n) = self.fs.waiting.get_mut(&goto.name) {
            *n -= 1;
        }
        let at = self.first_jump(goto.list) as usize;
        self.fs.code[at] = self.fs.code[at].with_a(slot);
        self.land(goto.list, pc)
    }

    /// Makes a waiting jump close upvalues on its way.
    fn close_goto(&mut self, goto: &mut Goto) -> Result<()> {
        let pc = self.first_jump(goto.list);
        let ins = self.fs.code[pc as usize].with_a(goto.slot);
        if ins.op() != Op::JMP {
            self.fs.code[pc as usize] = ins;
            return Ok(());
        }
        self.fs.code[pc as usize] = ins.with_op(Op::UCLO);
        let others = self.rest_jumps(goto.list);
        goto.list = self.cut_to_first(goto.list);
        if !others.is_none() {
            self.land(others, pc)?;
        }
        Ok(())
    }

    /// At the end of a scope: its labels take the jumps backwards to them and vanish; other jumps
    /// go on waiting in the scope around.
    fn end_gotos(&mut self, scope: &Scope) -> Result<()> {
        // The scope itself is no longer on the list.
        let depth = self.fs.scopes.len() + 1;
        let closes = scope.flags & UPVAL != 0;
        let mut kept = scope.first_goto;
        for i in scope.first_goto..self.fs.gotos.len() {
            let mut goto = self.fs.gotos[i];
            if let Some(label) = self.fs.labels.get(&(depth, goto.name)).copied() {
                if closes && goto.slot > label.slot {
                    self.close_goto(&mut goto)?;
                }
                self.patch_goto(goto, label.slot, label.pc)?;
                continue;
            }
            let Some(outer) = self.fs.scopes.last_mut() else {
                return Err(self.no_label_error(&goto));
            };
            outer.flags |= if goto.name == LabelName::Break { BREAK } else { GOTO };
            goto.slot = scope.nactive;
            if closes {
                self.close_goto(&mut goto)?;
            }
            self.fs.gotos[kept] = goto;
            kept += 1;
        }
        self.fs.gotos.truncate(kept);
        for name in self.fs.label_names.drain(scope.first_label..) {
            self.fs.labels.remove(&(depth, name));
        }
        Ok(())
    }

    fn no_label_error(&self, goto: &Goto) -> Box<SyntaxError> {
        let text = match goto.name {
            LabelName::Break => b"no loop to break".to_vec(),
            LabelName::Continue => b"no loop to continue".to_vec(),
            LabelName::Named(name) => [b"undefined label '", self.ast.strings.get(name), b"'"].concat(),
        };
        let mut e = self.error_on(self.jump_line(goto.list), &text);
        e.truncated = self.fs.truncated;
        e
    }
}
