//! Bytecode as text, in the form of `luajit -bl`. Used by the command line and by tests.

use std::io::Write;

use super::instr::Instr;
use super::ops::{Mode, Op};
use super::protodef::{KGc, ProtoDef, TSETM_BIAS};
use crate::value::number::to_text;

/// Lists a function and, before it, the functions inside it. `source` is the chunk name as shown.
pub fn list(def: &ProtoDef, out: &mut Vec<u8>) {
    for k in &def.kgc {
        if let KGc::Proto(child) = k {
            list(child, out);
        }
    }
    out.extend_from_slice(b"-- BYTECODE -- ");
    out.extend_from_slice(&location(def));
    let _ = writeln!(out, "-{}", def.lastline);
    let mut is_target = vec![false; def.code.len() + 1];
    for (pc, &word) in def.code.iter().enumerate() {
        if let Some(target) = jump_target(pc, Instr(word))
            && let Some(slot) = is_target.get_mut(target)
        {
            *slot = true;
        }
    }
    for (pc, target) in is_target.iter().enumerate().take(def.code.len()).skip(1) {
        line(def, pc, *target, out);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// `name:line` of a function.
fn location(def: &ProtoDef) -> Vec<u8> {
    super::chunkname::location(&def.chunkname, def.firstline, def as *const ProtoDef as u64)
}

fn jump_target(pc: usize, ins: Instr) -> Option<usize> {
    let op = Op::from_u8(ins.op_byte())?;
    (op.info().cd == Mode::Jump).then(|| (pc as i64 + 1 + ins.j() as i64).max(0) as usize)
}

/// Appends one instruction: number, `=>` if something jumps to it, name, operands, and what its
/// constant operand stands for.
pub fn line(def: &ProtoDef, pc: usize, is_target: bool, out: &mut Vec<u8>) {
    let ins = Instr(def.code[pc]);
    let mark = if is_target { "=>" } else { "  " };
    let Some(op) = Op::from_u8(ins.op_byte()) else {
        let _ = write!(out, "{pc:04} {mark} ?{:02x}", ins.op_byte());
        return;
    };
    let info = op.info();
    let a = if info.a == Mode::Unused { "   ".to_string() } else { format!("{:3}", ins.a()) };
    let _ = write!(out, "{pc:04} {mark} {:<6} {a} ", op.name());
    if let Some(target) = jump_target(pc, ins) {
        let _ = write!(out, "=> {target:04}");
        return;
    }
    if info.cd == Mode::Unused && info.b.is_none() {
        return;
    }
    let operand = if info.b.is_some() { ins.c() } else { ins.d() };
    let mut notes = Vec::new();
    if info.a == Mode::Uv {
        notes.extend(upvalue_name(def, ins.a()));
    }
    notes.extend(note(def, op, info.cd, operand));
    let notes = notes.join(&b" ; "[..]);
    let shown = if info.cd == Mode::Lits { operand as u16 as i16 as i64 } else { operand as i64 };
    let gap = if info.b.is_some() {
        let _ = write!(out, "{:3} ", ins.b());
        "  "
    } else {
        "      "
    };
    let _ = write!(out, "{shown:3}");
    if !notes.is_empty() {
        let _ = write!(out, "{gap}; ");
        out.extend_from_slice(&notes);
    }
}

fn upvalue_name(def: &ProtoDef, index: u32) -> Option<Vec<u8>> {
    Some(def.upvalue_names.get(index as usize)?.to_vec())
}

/// What a constant or upvalue operand stands for.
fn note(def: &ProtoDef, op: Op, mode: Mode, operand: u32) -> Option<Vec<u8>> {
    let at = operand as usize;
    Some(match mode {
        Mode::Num => {
            let n = *def.knum.get(at)?;
            to_text(if op == Op::TSETM { n - TSETM_BIAS } else { n })
        }
        Mode::Uv => return upvalue_name(def, operand),
        Mode::Str | Mode::Func => return constant(def.kgc.get(at)?),
        _ => return None,
    })
}

/// A constant that is not a number.
fn constant(k: &KGc) -> Option<Vec<u8>> {
    Some(match k {
        KGc::Str(s) => quoted(s),
        KGc::Proto(p) => location(p),
        KGc::TableTemplate { .. } => b"table".to_vec(),
        KGc::Int64(_) | KGc::UInt64(_) | KGc::Complex(_) => return None,
    })
}

/// A string constant, control characters escaped, cut at 40 bytes.
fn quoted(s: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &c in s {
        match c {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            0..=31 | 127 => text.extend_from_slice(format!("\\{c:03}").as_bytes()),
            _ => text.push(c),
        }
    }
    if s.len() > 40 {
        // Of the text, not of the string.
        text.truncate(41);
        text.extend_from_slice(b"\"~");
    } else {
        text.push(b'"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_shows_constants_jumps_and_names() {
        let def = ProtoDef {
            code: vec![
                Instr::ad(Op::FUNCV, 2, 0).0,
                Instr::ad(Op::KSTR, 0, 0).0,
                Instr::abc(Op::ADDVN, 1, 0, 0).0,
                Instr::ad(Op::KSHORT, 1, 0xffff).0,
                Instr::ad(Op::USETS, 0, 0).0,
                Instr::aj(Op::JMP, 0, -4).0,
                Instr::ad(Op::RET0, 0, 1).0,
            ],
            knum: vec![0.5],
            kgc: vec![KGc::Str((*b"a\nb").into())],
            upvalue_names: vec![(*b"up").into()],
            chunkname: (*b"@x.lua").into(),
            lastline: 3,
            ..ProtoDef::default()
        };
        let mut out = Vec::new();
        list(&def, &mut out);
        let want = "-- BYTECODE -- x.lua:0-3\n\
            0001    KSTR     0   0      ; \"a\\nb\"\n\
            0002 => ADDVN    1   0   0  ; 0.5\n\
            0003    KSHORT   1  -1\n\
            0004    USETS    0   0      ; up ; \"a\\nb\"\n\
            0005    JMP      0 => 0002\n\
            0006    RET0     0   1\n\n";
        assert_eq!(String::from_utf8_lossy(&out), want);
    }
}
