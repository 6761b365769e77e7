//! Lists of jumps waiting for their target.
//!
//! A list is a chain of [`Link`]s, not threaded through the instructions. A conditional jump may
//! carry a value: the test before it then copies the tested register on the way out.

use super::*;
use crate::bytecode::instr::NO_REG;

/// One jump of a list.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pc: Pc,
    next: u32,
}

const END: u32 = u32::MAX;

/// A list of jumps; indexes into [`FuncState::links`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct JumpList {
    head: u32,
    tail: u32,
}

impl JumpList {
    /// No jumps.
    pub(super) const NONE: JumpList = JumpList { head: END, tail: END };

    pub(super) fn is_none(self) -> bool {
        self.head == END
    }
}

impl Compiler<'_> {
    /// The list of one jump.
    fn single_jump(&mut self, pc: Pc) -> JumpList {
        let at = self.fs.links.len() as u32;
        self.fs.links.push(Link { pc, next: END });
        JumpList { head: at, tail: at }
    }

    /// Appends `more` to `list`.
    pub(super) fn join(&mut self, list: JumpList, more: JumpList) -> JumpList {
        if list.is_none() {
            return more;
        }
        if more.is_none() {
            return list;
        }
        self.fs.links[list.tail as usize].next = more.head;
        JumpList { head: list.head, tail: more.tail }
    }

    /// The instruction of the first jump.
    pub(super) fn first_jump(&self, list: JumpList) -> Pc {
        self.fs.links[list.head as usize].pc
    }

    /// The list without its first jump.
    pub(super) fn rest_jumps(&self, list: JumpList) -> JumpList {
        match self.fs.links[list.head as usize].next {
            END => JumpList::NONE,
            next => JumpList { head: next, tail: list.tail },
        }
    }

    /// The list of only the first jump of `list`.
    pub(super) fn cut_to_first(&mut self, list: JumpList) -> JumpList {
        self.fs.links[list.head as usize].next = END;
        JumpList { head: list.head, tail: list.head }
    }

    /// Emits a jump. Jumps that were waiting for this place join it; a `UCLO` just before becomes
    /// the jump.
    pub(super) fn jump(&mut self) -> Result<JumpList> {
        let waiting = std::mem::replace(&mut self.fs.pending, JumpList::NONE);
        let last = self.pc() - 1;
        let pc = if last >= self.fs.last_target && self.fs.code[last as usize].op() == Op::UCLO {
            self.fs.last_target = last + 1;
            last
        } else {
            let free = self.fs.free;
            self.emit(Instr::aj(Op::JMP, free, 0))?
        };
        let list = self.single_jump(pc);
        Ok(self.join(list, waiting))
    }

    /// Sets the target of one jump.
    pub(super) fn set_target(&mut self, pc: Pc, dest: Pc) -> Result<()> {
        let delta = dest as i64 - (pc as i64 + 1);
        if !(-0x8000..0x8000).contains(&delta) {
            return Err(self.error_near("control structure too long"));
        }
        let ins = &mut self.fs.code[pc as usize];
        *ins = ins.with_j(delta as i32);
        Ok(())
    }

    /// Whether some jump of the list leaves no value.
    pub(super) fn some_without_value(&self, list: JumpList) -> bool {
        let mut rest = list;
        while !rest.is_none() {
            let test = self.fs.code[self.first_jump(rest) as usize - 1];
            if !(matches!(test.op(), Op::ISTC | Op::ISFC) || test.a() == NO_REG) {
                return true;
            }
            rest = self.rest_jumps(rest);
        }
        false
    }

    /// Makes the test before the jump at `pc` leave its value in `reg`, or nowhere. False if the
    /// instruction there has no value to leave.
    fn direct_value(&mut self, pc: Pc, reg: Option<Reg>) -> bool {
        let at = pc as usize - 1;
        let test = self.fs.code[at];
        match test.op() {
            op @ (Op::ISTC | Op::ISFC) => {
                self.fs.code[at] = match reg {
                    Some(r) if r != test.d() => test.with_a(r),
                    _ => Instr::ad(if op == Op::ISTC { Op::IST } else { Op::ISF }, 0, test.d()),
                };
                true
            }
            _ if test.a() == NO_REG => {
                let jump = self.fs.code[pc as usize];
                match reg {
                    None => self.fs.code[at] = Instr::aj(Op::JMP, jump.a(), 0),
                    Some(r) => {
                        self.fs.code[at] = test.with_a(r);
                        if r >= jump.a() {
                            self.fs.code[pc as usize] = jump.with_a(r + 1);
                        }
                    }
                }
                true
            }
            _ => false,
        }
    }

    /// Makes all jumps of the list carry no value.
    pub(super) fn drop_values(&mut self, list: JumpList) {
        let mut rest = list;
        while !rest.is_none() {
            self.direct_value(self.first_jump(rest), None);
            rest = self.rest_jumps(rest);
        }
    }

    /// Sends jumps that carry a value (into `reg`) to `with_value`, the others to `without`.
    pub(super) fn resolve_values(
        &mut self,
        list: JumpList,
        with_value: Pc,
        reg: Option<Reg>,
        without: Pc,
    ) -> Result<()> {
        let mut rest = list;
        while !rest.is_none() {
            let pc = self.first_jump(rest);
            rest = self.rest_jumps(rest);
            let dest = if self.direct_value(pc, reg) { with_value } else { without };
            self.set_target(pc, dest)?;
        }
        Ok(())
    }

    /// Sends the jumps to the next instruction.
    pub(super) fn land_here(&mut self, list: JumpList) {
        self.fs.last_target = self.pc();
        self.fs.pending = self.join(self.fs.pending, list);
    }

    /// Sends the jumps to `target`.
    pub(super) fn land(&mut self, list: JumpList, target: Pc) -> Result<()> {
        if target == self.pc() {
            self.land_here(list);
            Ok(())
        } else {
            self.resolve_values(list, target, None, target)
        }
    }
}
