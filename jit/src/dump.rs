//! Traces as `jit.util` tells them: instructions, constants and snapshots in the numbers that LuaJIT's `jit.dump` reads.
//!
//! References count from the border: instructions 0 (the base), 1, 2 ...; constants -1, -2 ... The C functions of a trace
//! follow its constants, so that a call names one.

use crate::ir::ins::{Ins, conv};
use crate::ir::ops::{IrOp, Opnd};
use crate::ir::refs::{Ref, SnapNo};
use crate::ir::ty::Ty;
use crate::lower::Register;
use crate::trace::snapshot::box_const;
use crate::trace::{Target, Trace};
use moonlit_vm::state::hooks::{TraceConst, TraceIns, TraceValue};
use moonlit_vm::value::Value;

/// The result is in no register.
const NOWHERE: u32 = 0x80;
/// The instruction is done at exits only.
const SUNK: u32 = 0xfd;

/// Flags of a snapshot's entry: a frame link; memory holds the value already.
const FRAME: u32 = 0x01_0000;
const NORESTORE: u32 = 0x04_0000;

/// Number of constants, C functions included.
pub fn constants(t: &Trace) -> usize {
    t.ir.const_count() + t.ccalls.len()
}

/// Number of the last instruction.
pub fn instructions(t: &Trace) -> usize {
    t.ir.len() - 1
}

/// A reference as a number. No operand is the constant nil.
fn number(r: Ref) -> i32 {
    if r.is_none() { -1 } else { i32::from(r.bits()) - i32::from(Ref::BIAS) }
}

/// LuaJIT's form of a conversion's literal: source, result, and what is checked.
fn conversion(i: &Ins) -> i32 {
    let mut n = conv::src(i.b) as i32 | (i.ty() as i32) << 5;
    if i.b & conv::SEXT != 0 {
        n |= 0x800;
    }
    let check = if i.b & conv::INDEX != 0 {
        2
    } else if i.b & conv::CHECK != 0 {
        3
    } else {
        0
    };
    n | check << 12
}

fn operand(kind: Opnd, bits: u16) -> (u32, i32) {
    match kind {
        Opnd::Ref => (0, number(Ref::from_bits(bits))),
        Opnd::Lit => (1, i32::from(bits)),
        Opnd::None => (3, 0),
    }
}

/// Number of the first register of floating point numbers.
const FLOATS: u32 = if cfg!(target_arch = "x86_64") { 16 } else { 32 };

/// Instruction `r`; its result is in `register`.
pub fn instruction(t: &Trace, r: i32, register: Option<Register>) -> Option<TraceIns> {
    let at = usize::try_from(r).ok().filter(|&n| n < t.ir.len())?;
    let at = Ref::ins(at);
    let i = t.ir.ins(at);
    let (a, b) = i.op.operands();
    let ((m1, op1), (mut m2, mut op2)) = (operand(a, i.a), operand(b, i.b));
    match i.op {
        IrOp::CONV => op2 = conversion(i),
        // LuaJIT keeps a hash beside the upvalue's number.
        IrOp::UREFO | IrOp::UREFC => op2 <<= 8,
        IrOp::CALLXS => (m2, op2) = (0, -1 - (t.ir.const_count() as i32 + i32::from(i.b))),
        _ => {}
    }
    let flags = if i.is_guard() { 0x80 } else { 0 } | if i.t.is_phi() { 0x40 } else { 0 };
    let sunk = t.sunk.iter().any(|o| o.at == at || o.stores.iter().any(|s| s.0 == at));
    Some(TraceIns {
        mode: m1 | m2 << 2,
        ot: (i.op as u32) << 8 | i.ty() as u32 | flags,
        op1,
        op2,
        place: match register {
            _ if sunk => SUNK,
            Some(Register::General(n)) => u32::from(n),
            Some(Register::Float(n)) => FLOATS + u32::from(n),
            None => NOWHERE,
        },
    })
}

/// Constant `r`.
pub fn constant(t: &Trace, r: i32) -> Option<TraceConst> {
    let i = usize::try_from(-1 - i64::from(r)).ok()?;
    let address = |n: u64| TraceValue::Lua(Value::num(n as f64));
    if let Some(c) = i.checked_sub(t.ir.const_count()) {
        let target = match t.ccalls.get(c)?.target {
            Target::Function(f) => f,
            Target::Ffi { entry, .. } => entry,
        };
        return Some(TraceConst { value: address(target), ty: Ty::P64 as u32, slot: None });
    }
    let k = t.ir.k(Ref::konst(i));
    let value = match k.ty {
        Ty::I64 => TraceValue::Int64(k.bits as i64),
        Ty::U64 => TraceValue::UInt64(k.bits),
        // No values of the language.
        Ty::P64 | Ty::Upval => address(k.bits),
        ty if ty.is_gc() && k.bits == 0 => address(0),
        _ => TraceValue::Lua(Value(box_const(k))),
    };
    Some(TraceConst { value, ty: k.ty as u32, slot: k.slot.checked_sub(1) })
}

/// Snapshot `n`.
pub fn snapshot(t: &Trace, n: usize) -> Option<Vec<u32>> {
    let s = t.snaps.get(n)?;
    let mut out = vec![number(s.at) as u32, u32::from(s.nslots)];
    let mut entries = t.entries(SnapNo::new(n)).to_vec();
    entries.sort_by_key(|e| e.slot);
    // A slot has eight bits there; the frames of a trace have few more.
    for e in entries.iter().filter(|e| e.slot < 256) {
        let mut word = u32::from(e.slot) << 24 | u32::from(e.value.bits());
        if e.raw {
            word |= FRAME;
        }
        if e.norestore {
            word |= NORESTORE;
        }
        out.push(word);
    }
    Some(out)
}

/// Places in the machine code of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Where its loop begins, in bytes; 0: nowhere.
    pub looping: usize,
    /// Where each exit begins, in bytes, if the code has it.
    pub exits: Vec<Option<usize>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::text;

    #[test]
    fn instructions_and_snapshots_are_told_in_luajits_numbers() {
        let t = text::parse(
            "0001 > num SLOAD #2 TI\n\
             SNAP #0 pc=1f base=0 slots=4 [ 2:0001 r1:p64@8 3:-5! ]\n\
             0002   num ADD 0001 1.5\n\
             0003   int CONV 0002 int.num.check\n\
             0004 > nil LOOP\n\
             LINK loop\n",
        )
        .expect("parses");
        assert_eq!(instructions(&t), 4);
        let load = instruction(&t, 1, None).expect("is there");
        assert_eq!((load.mode, load.op1, load.op2), (1 | 1 << 2, 2, 4 | 32));
        assert_eq!(load.ot, (IrOp::SLOAD as u32) << 8 | 0x80 | 14);
        let add = instruction(&t, 2, Some(Register::Float(3))).expect("is there");
        assert_eq!((add.mode, add.op1, add.place), (0, 1, FLOATS + 3));
        let TraceValue::Lua(k) = constant(&t, add.op2).expect("is there").value else { panic!("no number") };
        assert_eq!(k.as_num(), Some(1.5));
        assert_eq!(instruction(&t, 3, None).expect("is there").op2, 14 | 19 << 5 | 3 << 12);
        assert_eq!(instruction(&t, 5, None), None);
        assert_eq!(constant(&t, -1).map(|k| k.ty), Some(0));
        assert!(
            constant(&t, -1000).is_none() && constant(&t, 0).is_none() && constant(&t, i32::MIN).is_none()
        );
        let s = snapshot(&t, 0).expect("is there");
        assert_eq!(s[..2], [2, 4]);
        assert_eq!(s[2] & 0xff01_0000, 0x0101_0000);
        assert_eq!(s[3], 2 << 24 | 0x8001);
        assert_eq!(s[4] & 0xff04_0000, 0x0304_0000);
        assert_eq!(snapshot(&t, 1), None);
    }
}
