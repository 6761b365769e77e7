//! The text form of IR, one instruction per line. [`super::parse`] reads it back.
//!
//! ```text
//!   0001 > num SLOAD #2 TC
//!   0002   num ADD 0001 +1.5
//!   0003 > int LT 0002 tab@1f40
//! ```
//! Constants stand where they are used: `+7` integer, `1.5` number, `tab@hex` object or pointer,
//! `str@hex#n` key in node `n`, `i64:hex` 64-bit integer.

use super::buffer::{Const, IrBuf};
use super::ins::{Field, Ins, conv, fpm, sload};
use super::ops::{IrOp, Opnd};
use super::refs::Ref;
use super::ty::Ty;
use std::fmt::Write;

/// Text of an operand.
pub fn operand(ir: &IrBuf, r: Ref) -> String {
    if r.is_const() { konst(ir.k(r)) } else { format!("{r:?}") }
}

/// Text of a constant.
pub fn konst(k: Const) -> String {
    let mut s = match k.ty {
        Ty::Nil | Ty::False | Ty::True if k.slot == 0 => {
            return match k.ty {
                Ty::Nil => "nil",
                Ty::False => "false",
                _ => "true",
            }
            .to_string();
        }
        Ty::Int => format!("{:+}", k.bits as i32),
        Ty::Num => format!("{:?}", f64::from_bits(k.bits)),
        t if t.is_int() => format!("{}:{:x}", t.name().trim_end(), k.bits),
        t => format!("{}@{:x}", t.name(), k.bits),
    };
    if k.slot != 0 {
        let _ = write!(s, "#{}", k.slot - 1);
    }
    s
}

/// Text of a literal second operand.
fn literal(i: &Ins) -> String {
    match i.op {
        IrOp::SLOAD => {
            let mut s = String::new();
            for (bit, c) in sload::LETTERS.iter().enumerate() {
                if i.b >> bit & 1 != 0 {
                    s.push(*c as char);
                }
            }
            if s.is_empty() { "-".into() } else { s }
        }
        IrOp::CONV => {
            let mut s = format!("{}.{}", i.ty().name().trim_end(), conv::src(i.b).name().trim_end());
            for (bit, text) in [(conv::CHECK, ".check"), (conv::INDEX, ".index"), (conv::SEXT, ".sext")] {
                if i.b & bit != 0 {
                    s.push_str(text);
                }
            }
            s
        }
        IrOp::FPMATH => fpm::NAMES[i.b as usize].into(),
        IrOp::FLOAD | IrOp::FREF => Field::from_lit(i.b).name().into(),
        _ => format!("#{}", i.b),
    }
}

/// One instruction as a line, without the newline.
pub fn line(ir: &IrBuf, r: Ref) -> String {
    let i = ir.ins(r);
    let mut s = format!("{r:?} {} {} {}", if i.is_guard() { '>' } else { ' ' }, i.ty().name(), i.op.name());
    let (ma, mb) = i.op.operands();
    match ma {
        Opnd::None => {}
        Opnd::Ref => {
            let _ = write!(s, " {}", operand(ir, i.ra()));
        }
        Opnd::Lit => {
            let _ = write!(s, " #{}", i.a);
        }
    }
    match mb {
        Opnd::None => {}
        Opnd::Ref => {
            let _ = write!(s, " {}", operand(ir, i.rb()));
        }
        Opnd::Lit => {
            let _ = write!(s, " {}", literal(i));
        }
    }
    s
}
