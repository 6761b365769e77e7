//! The text form of a whole trace: IR lines with snapshot lines between them.
//!
//! ```text
//!   0001 > num SLOAD #2 T
//!   SNAP #0 pc=1f base=0 slots=4 [ 2:0001 r3:p64@8 3:+5! ]
//!   LINK loop
//! ```
//! A comment line names each object that only exits make: what is stored in it, and where.
//!
//! `r` marks a raw word, `!` a slot that memory already holds.

use super::Trace;
use super::link::Link;
use super::snapshot::{Snap, SnapEntry};
use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::parse::{self, ParseError};
use crate::ir::print;
use crate::ir::refs::SnapNo;
use crate::ir::ty::Ty;
use std::fmt::Write;

/// Writes a trace; `NOP`s are left out.
pub fn print(t: &Trace) -> String {
    let mut s = String::new();
    let mut next = 0;
    let snap_line = |s: &mut String, n: usize| {
        let sn = &t.snaps[n];
        let _ = write!(s, "SNAP #{n} pc={:x} base={} slots={} [", sn.pc, sn.base, sn.nslots);
        for e in t.entries(SnapNo::new(n)) {
            let _ = write!(
                s,
                " {}{}:{}{}",
                if e.raw { "r" } else { "" },
                e.slot,
                print::operand(&t.ir, e.value),
                if e.norestore { "!" } else { "" }
            );
        }
        s.push_str(" ]\n");
    };
    for r in t.ir.refs().skip(1) {
        while next < t.snaps.len() && t.snaps[next].at <= r {
            snap_line(&mut s, next);
            next += 1;
        }
        if t.ir.ins(r).op != IrOp::NOP {
            s.push_str(&print::line(&t.ir, r));
            s.push('\n');
        }
    }
    while next < t.snaps.len() {
        snap_line(&mut s, next);
        next += 1;
    }
    match t.link {
        Link::None => {}
        Link::Root(n) => {
            let _ = writeln!(s, "LINK root {n}");
        }
        l => {
            let _ = writeln!(s, "LINK {}", l.name());
        }
    }
    for o in &t.sunk {
        let _ = write!(s, "; sunk {:?} c{} {} bytes:", o.at, o.ctypeid, o.size);
        for (at, offset, ty, v) in &o.stores {
            let _ = write!(s, " {at:?}:+{offset}={} {}", ty.name().trim_end(), print::operand(&t.ir, *v));
        }
        s.push('\n');
    }
    s
}

fn field<T: std::str::FromStr>(w: &str, name: &str) -> Option<T> {
    w.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
}

fn snap(t: &mut Trace, text: &str) -> Result<(), ParseError> {
    let bad =
        || ParseError { expected: "SNAP #n pc=hex base=n slots=n [ slot:ref ... ]", found: text.to_string() };
    let mut w = text.split_whitespace().skip(2);
    let pc = w
        .next()
        .and_then(|w| w.strip_prefix("pc="))
        .and_then(|h| u64::from_str_radix(h, 16).ok())
        .ok_or_else(bad)?;
    let base = w.next().and_then(|w| field(w, "base")).ok_or_else(bad)?;
    let nslots = w.next().and_then(|w| field(w, "slots")).ok_or_else(bad)?;
    if w.next() != Some("[") {
        return Err(bad());
    }
    let map = t.map.len() as u32;
    for e in w.take_while(|&w| w != "]") {
        let raw = e.starts_with('r');
        let norestore = e.ends_with('!');
        let (slot, value) =
            e.trim_start_matches('r').trim_end_matches('!').split_once(':').ok_or_else(bad)?;
        let value = parse::operand(&mut t.ir, value)?;
        t.map.push(SnapEntry { slot: slot.parse().map_err(|_| bad())?, value, raw, norestore });
    }
    let len = t.map.len() as u16 - map as u16;
    t.snaps.push(Snap { at: t.ir.next_ref(), map, len, nslots, base, multres: 0, pc });
    Ok(())
}

/// Reads a trace. Blank lines and lines that start with `;` are skipped.
pub fn parse(text: &str) -> Result<Trace, ParseError> {
    let mut t = Trace::default();
    for l in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(';')) {
        if l.starts_with("SNAP") {
            snap(&mut t, l)?;
        } else if let Some(link) = l.strip_prefix("LINK ") {
            t.link = match link.split_once(' ') {
                Some(("root", n)) => match n.parse() {
                    Ok(n) => Link::Root(n),
                    Err(_) => return parse::err("trace number", l),
                },
                None if link == "loop" => Link::Loop,
                None if link == "interpreter" => Link::Interp,
                _ => return parse::err("link", l),
            };
        } else {
            let line = parse::line(&mut t.ir, l)?;
            while t.ir.next_ref() < line.at {
                t.ir.push(Ins::raw(IrOp::NOP, IrT::of(Ty::Nil), 0, 0));
            }
            if t.ir.next_ref() != line.at {
                return parse::err("next instruction number", l);
            }
            t.ir.push(line.ins);
        }
    }
    Ok(t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_back_to_the_same_text() {
        let text = "0001 > num SLOAD #2 TI\n\
                    SNAP #0 pc=1f base=0 slots=4 [ 2:0001 r3:p64@8 4:-5! ]\n\
                    0002   num ADD 0001 1.5\n\
                    0003 > nil LT 0002 inf\n\
                    0004   int CONV 0002 int.num.check\n\
                    0005   p64 FLOAD tab@1f40 tab.array\n\
                    0006 > p64 HREFK 0005 str@99#3\n\
                    0007 > nil LOOP\n\
                    SNAP #1 pc=20 base=2 slots=4 [ ]\n\
                    LINK loop\n";
        let t = parse(text).expect("parses");
        assert_eq!(print(&t), text);
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        assert_eq!(parse("0001 num FOO").expect_err("no such op").expected, "operation");
        assert_eq!(parse("0002 num ADD 0001").expect_err("operand").expected, "operand");
    }
}
