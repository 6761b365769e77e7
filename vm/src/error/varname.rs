//! Finds the name a program uses for a register, for error messages and `debug.getinfo`. Reads bytecode
//! only; knows no VM state.

use crate::bytecode::instr::Instr;
use crate::bytecode::ops::{Mode, Op};
use crate::cell::gc_ref::Gc;
use crate::function::proto::Proto;
use crate::heap::Heap;
use crate::string::Str;

/// What kind of variable a name belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameKind {
    /// A local variable.
    Local,
    /// An upvalue.
    Upvalue,
    /// A global variable.
    Global,
    /// A table field with a constant name.
    Field,
    /// A method call.
    Method,
    /// A metamethod called by an instruction.
    Metamethod,
}

impl NameKind {
    /// The word used in messages.
    pub const fn word(self) -> &'static str {
        match self {
            NameKind::Local => "local",
            NameKind::Upvalue => "upvalue",
            NameKind::Global => "global",
            NameKind::Field => "field",
            NameKind::Method => "method",
            NameKind::Metamethod => "metamethod",
        }
    }
}

/// Name of the local variable that lives in `slot` at instruction `pos`, internal ones included.
pub fn local_at(pt: &Proto, pos: u32, slot: u32) -> Option<&[u8]> {
    pt.names()
        .locals()
        .take_while(|l| l.startpc <= pos)
        .find(|l| pos < l.endpc && l.slot as u32 == slot)
        .map(|l| l.name)
}

/// Where the value in `slot` came from, as seen by the instruction at `pos`.
pub fn slot_name(heap: &Heap, pt: &Proto, pos: u32, slot: u32) -> Option<(NameKind, Vec<u8>)> {
    let code = pt.code();
    let mut at = pos as usize;
    let mut slot = slot;
    if at >= code.len() {
        return None;
    }
    'restart: loop {
        if let Some(name) = local_at(pt, at as u32, slot) {
            return Some((NameKind::Local, name.to_vec()));
        }
        while at > 1 {
            at -= 1;
            let ins = Instr(code[at]);
            let op = ins.op();
            let ra = ins.a();
            let info = op.info();
            if info.a == Mode::Base {
                if slot >= ra && (op != Op::KNIL || slot <= ins.d()) {
                    return None;
                }
            } else if info.a == Mode::Dst && ra == slot {
                return match op {
                    Op::MOV => {
                        slot = ins.d();
                        continue 'restart;
                    }
                    Op::GGET => Some((NameKind::Global, const_str(heap, pt, ins.d())?)),
                    Op::TGETS => {
                        let name = const_str(heap, pt, ins.c())?;
                        let prev = Instr(code[at - 1]);
                        let is_method =
                            prev.op_byte() == Op::MOV as u8 && prev.a() == ra + 2 && prev.d() == ins.b();
                        Some((if is_method { NameKind::Method } else { NameKind::Field }, name))
                    }
                    Op::UGET => {
                        let name = pt.upvalue_name(ins.d() as usize)?;
                        Some((NameKind::Upvalue, name.to_vec()))
                    }
                    _ => None,
                };
            }
        }
        return None;
    }
}

/// The string constant with index `i`.
pub fn const_str(heap: &Heap, pt: &Proto, i: u32) -> Option<Vec<u8>> {
    let s: Gc<Str> = pt.kgc(i)?.as_obj()?;
    Some(s.bytes(heap).to_vec())
}
