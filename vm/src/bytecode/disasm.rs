//! Bytecode as text, in the form of `luajit -bl`. Used by the command line and by tests.

use std::fmt::Write;

use super::instr::Instr;
use super::ops::{Mode, Op};
use super::protodef::{KGc, ProtoDef};

/// Lists a function and, before it, the functions inside it. `source` is the chunk name as shown.
pub fn list(def: &ProtoDef, out: &mut String) {
    for k in &def.kgc {
        if let KGc::Proto(child) = k {
            list(child, out);
        }
    }
    let _ = writeln!(out, "-- BYTECODE -- {}-{}", location(def), def.lastline);
    let mut is_target = vec![false; def.code.len() + 1];
    for (pc, &word) in def.code.iter().enumerate() {
        if let Some(target) = jump_target(pc, Instr(word))
            && let Some(slot) = is_target.get_mut(target)
        {
            *slot = true;
        }
    }
    for pc in 1..def.code.len() {
        line(def, pc, is_target[pc], out);
        out.push('\n');
    }
    out.push('\n');
}

/// `name:line` of a function.
fn location(def: &ProtoDef) -> String {
    let name = super::chunkname::shorten(&def.chunkname);
    format!("{}:{}", String::from_utf8_lossy(&name), def.firstline)
}

fn jump_target(pc: usize, ins: Instr) -> Option<usize> {
    let op = Op::from_u8(ins.op_byte())?;
    (op.info().cd == Mode::Jump).then(|| (pc as i64 + 1 + ins.j() as i64).max(0) as usize)
}

/// Appends one instruction: number, `=>` if something jumps to it, name, operands, and what its
/// constant operand stands for.
pub fn line(def: &ProtoDef, pc: usize, is_target: bool, out: &mut String) {
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
    if info.b.is_some() {
        let _ = write!(out, "{:3} ", ins.b());
    }
    let shown = if info.cd == Mode::Lits { operand as u16 as i16 as i64 } else { operand as i64 };
    let _ = write!(out, "{shown:3}");
    if let Some(comment) = comment(def, info.cd, operand) {
        let _ = write!(out, "      ; {comment}");
    }
}

fn comment(def: &ProtoDef, mode: Mode, operand: u32) -> Option<String> {
    let at = operand as usize;
    Some(match mode {
        Mode::Num => number(*def.knum.get(at)?),
        Mode::Uv => String::from_utf8_lossy(def.upvalue_names.get(at)?).into_owned(),
        Mode::Str | Mode::Func | Mode::Tab | Mode::Cdata => match def.kgc.get(at)? {
            KGc::Str(s) => quoted(s),
            KGc::Proto(p) => location(p),
            KGc::TableTemplate { .. } => return None,
            KGc::Int64(n) => format!("{n}LL"),
            KGc::UInt64(n) => format!("{n}ULL"),
            KGc::Complex(n) => format!("0+{}i", number(*n)),
        },
        _ => return None,
    })
}

fn number(n: f64) -> String {
    if n == n.trunc() && n.abs() < 1e15 { format!("{}", n as i64) } else { format!("{n}") }
}

/// A string constant, control characters escaped, cut at 40 bytes.
fn quoted(s: &[u8]) -> String {
    let mut out = String::from("\"");
    for &c in s.iter().take(40) {
        match c {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0..=31 | 127 => {
                let _ = write!(out, "\\{c:03}");
            }
            _ => out.push(c as char),
        }
    }
    out.push('"');
    if s.len() > 40 {
        out.push('~');
    }
    out
}
