//! Instructions and constants.

use super::expr::{Exp, Key, Val};
use super::*;

/// Most constants of one kind: what an operand can name.
const CONSTANTS_MAX: usize = 0x10000;
/// Most instructions of one function.
const INSTRUCTIONS_MAX: usize = 1 << 26;
/// Largest 8-bit operand.
pub(super) const OPERAND_MAX: u32 = 0xff;

impl Compiler<'_> {
    /// Number of the next instruction.
    pub(super) fn pc(&self) -> Pc {
        self.fs.code.len() as Pc
    }

    /// Appends an instruction; jumps that wait for this place land on it.
    pub(super) fn emit(&mut self, ins: Instr) -> Result<Pc> {
        let pc = self.pc();
        let waiting = std::mem::replace(&mut self.fs.pending, jump::JumpList::NONE);
        if !waiting.is_none() {
            self.resolve_values(waiting, pc, None, pc)?;
        }
        self.check_limit(pc as usize, INSTRUCTIONS_MAX, "bytecode instructions")?;
        self.fs.code.push(ins);
        self.fs.lines.push(self.ast.line(self.place));
        Ok(pc)
    }

    /// Drops the last instruction.
    pub(super) fn unemit(&mut self) {
        self.fs.code.pop();
        self.fs.lines.pop();
    }

    /// Index of a number constant.
    pub(super) fn num_const(&mut self, n: f64) -> Result<u32> {
        if let Some(&index) = self.fs.knum_index.get(&n.to_bits()) {
            return Ok(index);
        }
        let index = self.fs.knum.len();
        self.check_limit(index, CONSTANTS_MAX, "constants")?;
        self.fs.knum.push(n);
        self.fs.knum_index.insert(n.to_bits(), index as u32);
        Ok(index as u32)
    }

    /// Index of a string constant.
    pub(super) fn str_const(&mut self, id: StrId) -> Result<u32> {
        if let Some(&index) = self.fs.kstr_index.get(&id) {
            return Ok(index);
        }
        let text = self.text(id);
        let index = self.add_kgc(KGc::Str(text))?;
        self.fs.kstr_index.insert(id, index);
        Ok(index)
    }

    /// Appends a constant that is not a number.
    pub(super) fn add_kgc(&mut self, k: KGc<Text, Made>) -> Result<u32> {
        let index = self.fs.kgc.len();
        self.check_limit(index, CONSTANTS_MAX, "constants")?;
        self.fs.kgc.push(k);
        Ok(index as u32)
    }

    /// Emits code that sets `n` registers to nil; merges with a preceding such instruction.
    pub(super) fn emit_nil(&mut self, from: Reg, n: u32) -> Result<()> {
        let (mut from, mut n) = (from, n);
        if self.pc() > self.fs.last_target {
            let last = self.fs.code.last_mut().expect("every function starts with a header");
            let first = last.a();
            match last.op() {
                Op::KPRI if last.d() == 0 => {
                    let merge = if from == first {
                        if n == 1 {
                            return Ok(());
                        }
                        true
                    } else if from == first + 1 {
                        from = first;
                        n += 1;
                        true
                    } else {
                        false
                    };
                    if merge {
                        *last = Instr::ad(Op::KNIL, from, from + n - 1);
                        return Ok(());
                    }
                }
                Op::KNIL if first <= from && from <= last.d() + 1 => {
                    if from + n - 1 > last.d() {
                        *last = last.with_d(from + n - 1);
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
        self.emit(if n == 1 {
            Instr::ad(Op::KPRI, from, 0)
        } else {
            Instr::ad(Op::KNIL, from, from + n - 1)
        })?;
        Ok(())
    }

    /// Emits the assignment of `e` to a variable or field.
    pub(super) fn store(&mut self, target: &Exp, e: &mut Exp) -> Result<()> {
        match target.val {
            Val::Local { reg, var } => {
                self.vars[var.0 as usize].assigned = true;
                self.free_exp(e);
                return self.to_reg(e, reg);
            }
            Val::Upvalue { index, var } => {
                self.vars[var.0 as usize].assigned = true;
                self.to_value(e)?;
                let ins = match e.val {
                    Val::Nil | Val::False | Val::True => Instr::ad(Op::USETP, index, e.val.primitive()),
                    Val::Str(id) => Instr::ad(Op::USETS, index, self.str_const(id)?),
                    Val::Num(n) => Instr::ad(Op::USETN, index, self.num_const(n)?),
                    _ => Instr::ad(Op::USETV, index, self.to_any_reg(e)?),
                };
                self.emit(ins)?;
            }
            Val::Global(name) => {
                let reg = self.to_any_reg(e)?;
                let k = self.str_const(name)?;
                self.emit(Instr::ad(Op::GSET, reg, k))?;
            }
            Val::Index { base, key } => {
                let reg = self.to_any_reg(e)?;
                let ins = match key {
                    Key::Str(k) => Instr::abc(Op::TSETS, reg, base, k),
                    Key::Byte(k) => Instr::abc(Op::TSETB, reg, base, k),
                    Key::Reg(k) => {
                        if let Val::Reg(r) = e.val
                            && r >= self.fs.nactive
                            && k >= r
                        {
                            // A key register taken after the value's, in a table constructor.
                            self.free_reg(k);
                        }
                        Instr::abc(Op::TSETV, reg, base, k)
                    }
                };
                self.emit(ins)?;
            }
            _ => unreachable!("the parser lets only variables and fields be assigned"),
        }
        self.free_exp(e);
        Ok(())
    }
}
