//! Reads back what [`super::print`] writes. References in the text must be in order; `NOP`s may be left out,
//! then the missing numbers are filled with them.

use super::buffer::{Const, IrBuf};
use super::ins::{Field, Ins, IrT, conv, fpm, sload};
use super::ops::{IrOp, Opnd};
use super::refs::Ref;
use super::ty::Ty;

/// Why a line could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What was expected.
    pub expected: &'static str,
    /// The piece of text.
    pub found: String,
}

/// Error at `found`.
pub fn err<T>(expected: &'static str, found: &str) -> Result<T, ParseError> {
    Err(ParseError { expected, found: found.to_string() })
}

/// Reads an operand, interning a constant.
pub fn operand(ir: &mut IrBuf, s: &str) -> Result<Ref, ParseError> {
    match s {
        "nil" => return Ok(Ref::NIL),
        "false" => return Ok(Ref::FALSE),
        "true" => return Ok(Ref::TRUE),
        "-" => return Ok(Ref::NONE),
        _ => {}
    }
    if s.len() == 4 && s.bytes().all(|c| c.is_ascii_digit()) {
        let n: usize = s.parse().expect("four digits");
        return Ok(Ref::ins(n));
    }
    let (body, slot) = match s.split_once('#') {
        Some((b, n)) => match n.parse::<u32>() {
            Ok(n) => (b, n + 1),
            Err(_) => return err("node number", s),
        },
        None => (s, 0),
    };
    let k = if let Some((t, hex)) = body.split_once('@').or_else(|| body.split_once(':')) {
        match (Ty::from_name(t), u64::from_str_radix(hex, 16)) {
            (Some(ty), Ok(bits)) => Const { ty, slot, bits },
            _ => return err("typed constant", s),
        }
    } else if let Some(Ok(n)) = body
        .starts_with(['+', '-'])
        .then(|| body.parse::<i32>())
        .filter(|_| !body.contains(['.', 'e', 'i', 'N']))
    {
        Const { ty: Ty::Int, slot, bits: n as i64 as u64 }
    } else if let Ok(n) = body.parse::<f64>() {
        Const { ty: Ty::Num, slot, bits: n.to_bits() }
    } else {
        return err("operand", s);
    };
    Ok(ir.konst(k))
}

fn number(s: &str) -> Result<u16, ParseError> {
    match s.strip_prefix('#').and_then(|n| n.parse().ok()) {
        Some(n) => Ok(n),
        None => err("#number", s),
    }
}

fn literal(op: IrOp, s: &str) -> Result<u16, ParseError> {
    match op {
        IrOp::SLOAD => {
            let mut bits = 0;
            for c in s.bytes().filter(|&c| c != b'-') {
                match sload::LETTERS.iter().position(|&l| l == c) {
                    Some(i) => bits |= 1 << i,
                    None => return err("SLOAD flags", s),
                }
            }
            Ok(bits)
        }
        IrOp::CONV => {
            let mut parts = s.split('.').skip(1);
            let Some(src) = parts.next().and_then(Ty::from_name) else { return err("conversion", s) };
            let mut bits = conv::from(src);
            for p in parts {
                bits |= match p {
                    "check" => conv::CHECK,
                    "index" => conv::INDEX,
                    "sext" => conv::SEXT,
                    _ => return err("conversion mode", p),
                };
            }
            Ok(bits)
        }
        IrOp::FPMATH => match fpm::NAMES.iter().position(|&n| n == s) {
            Some(i) => Ok(i as u16),
            None => err("function of FPMATH", s),
        },
        IrOp::FLOAD | IrOp::FREF => match Field::ALL.iter().position(|f| f.name() == s) {
            Some(i) => Ok(i as u16),
            None => err("field", s),
        },
        _ => number(s),
    }
}

/// An instruction read from a line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The number it stood at.
    pub at: Ref,
    /// The instruction.
    pub ins: Ins,
}

/// Reads one instruction line; constants go into `ir`, the instruction is returned.
pub fn line(ir: &mut IrBuf, text: &str) -> Result<Line, ParseError> {
    let mut w = text.split_whitespace().peekable();
    let at = match w.next() {
        Some(n) => operand(ir, n)?,
        None => return err("instruction", text),
    };
    if !at.is_ins() {
        return err("instruction number", text);
    }
    let guard = w.next_if_eq(&">").is_some();
    let Some(ty) = w.next().and_then(Ty::from_name) else { return err("type", text) };
    let Some(op) = w.next().and_then(IrOp::from_name) else { return err("operation", text) };
    let (ma, mb) = op.operands();
    let mut next = || w.next().ok_or(ParseError { expected: "operand", found: text.to_string() });
    let a = match ma {
        Opnd::None => 0,
        Opnd::Ref => operand(ir, next()?)?.bits(),
        Opnd::Lit => number(next()?)?,
    };
    let b = match mb {
        Opnd::None => 0,
        Opnd::Ref => operand(ir, next()?)?.bits(),
        Opnd::Lit => literal(op, next()?)?,
    };
    if let Some(rest) = w.next() {
        return err("end of line", rest);
    }
    Ok(Line { at, ins: Ins::raw(op, IrT::of(ty).with_guard(guard), a, b) })
}
