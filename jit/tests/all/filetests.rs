//! Runs `filetests/**/*.tir`: a line of commands, a trace, and the expected text. `BLESS=1` rewrites the
//! expectation.
//!
//! ```text
//!   ;! emit loop dce        commands, in order
//!   0001 > num SLOAD #2 T   the trace
//!   ...
//!   ---- expected
//!   ...
//! ```
//! Commands: `emit` (through fold, forwarding, CSE), `loop`, `dce`, `sink`, `print`, and `run a b c` (compiles the trace,
//! runs it on slots 2, 3, 4... holding these numbers, compares with the evaluator, prints the exit).

use moonlit_jit::code::exec;
use moonlit_jit::code::exit::{ExitBuffer, ExitCells};
use moonlit_jit::code::link::Runtime;
use moonlit_jit::ir::eval::{self, Stop};
use moonlit_jit::ir::ins::Ins;
use moonlit_jit::ir::ops::{IrOp, Opnd};
use moonlit_jit::ir::refs::{Ref, SnapNo};
use moonlit_jit::ir::verify;
use moonlit_jit::lower::{Compiler, Env};
use moonlit_jit::opt::{self, Passes};
use moonlit_jit::trace::snapshot::box_bits;
use moonlit_jit::trace::{Trace, text};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn emit(t: &Trace) -> Result<Trace, String> {
    let mut out = Trace { link: t.link, ..Trace::default() };
    let mut subst = vec![Ref::BASE; t.ir.len()];
    let mut next = 0;
    let re = |out: &mut Trace, subst: &[Ref], r: Ref| {
        if r.is_ins() {
            subst[r.ins_index()]
        } else if r.is_none() {
            r
        } else {
            out.ir.konst(t.ir.k(r))
        }
    };
    for r in t.ir.refs().chain([t.ir.next_ref()]).skip(1) {
        while next < t.snaps.len() && t.snaps[next].at <= r {
            let s = t.snaps[next];
            let map = out.map.len() as u32;
            for e in t.entries(SnapNo::new(next)) {
                let value = re(&mut out, &subst, e.value);
                out.map.push(moonlit_jit::trace::snapshot::SnapEntry { value, ..*e });
            }
            let at = out.ir.next_ref();
            out.snaps.push(moonlit_jit::trace::snapshot::Snap { at, map, ..s });
            next += 1;
        }
        if r == t.ir.next_ref() {
            break;
        }
        let i = *t.ir.ins(r);
        if i.op == IrOp::NOP {
            continue;
        }
        let (ma, mb) = i.op.operands();
        let mut n = Ins { prev: 0, ..i };
        if ma == Opnd::Ref {
            n.a = re(&mut out, &subst, i.ra()).bits();
        }
        if mb == Opnd::Ref {
            n.b = re(&mut out, &subst, i.rb()).bits();
        }
        subst[r.ins_index()] =
            opt::emit(&mut out.ir, Passes::ALL, n).map_err(|a| format!("ABORT {}\n", a.text(None)))?;
    }
    Ok(out)
}

/// Slots at the end of the trace: what the last snapshot says, else the first load of the slot.
fn slots_at_end(t: &Trace) -> Vec<Ref> {
    let mut slots = vec![Ref::NONE; 256];
    for r in t.ir.refs() {
        let i = t.ir.ins(r);
        if i.op == IrOp::SLOAD {
            slots[i.a as usize] = r;
        }
    }
    if let Some(last) = t.snaps.len().checked_sub(1) {
        for e in t.entries(SnapNo::new(last)) {
            slots[e.slot as usize] = e.value;
        }
    }
    slots
}

fn run(t: &Trace, args: &[f64]) -> String {
    let mut c = Compiler::new(true).expect("a code generator");
    let mut rt = Runtime::new(1 << 20, 1 << 16, &c.stubs().expect("stubs compile")).expect("code memory");
    let cells = ExitCells::new(t.snaps.len(), rt.leave_stub());
    let buf = ExitBuffer::new();
    // All that these traces read of a VM.
    let mut vm = [0u64; 2];
    let env = Env {
        trace_no: 7,
        exit_buffer: buf.address(),
        exit_cells: cells.address(),
        flags_word: 0,
        gc_due: 0,
        stack_limit: 8,
        nil_node: 0,
        heap: 0,
        ..Env::default()
    };
    let code = c.compile(t, &env).expect("the trace compiles");
    let inst = rt.install(&code).expect("room");
    let mut slots = vec![!0u64; 64];
    for (i, a) in args.iter().enumerate() {
        slots[i + 2] = a.to_bits();
    }
    // SAFETY: the thunk was just installed in a live arena; the traces of these tests touch no VM, and their
    // slots lie within the 64 of this block.
    let exit = unsafe { exec::enter(inst.entry, (&raw mut vm).cast(), slots.as_mut_ptr().add(2)) };
    assert_eq!(exit >> 32, 7);
    let snap = SnapNo::new(exit as u32 as usize);
    let (stop, vals) = eval::run(&t.ir, &slots, 1_000_000);
    let expect = match stop {
        Stop::Exit(r) => t.snap_at(r),
        Stop::End => SnapNo::new(t.snaps.len() - 1),
        s => panic!("the evaluator stopped with {s:?}"),
    };
    let mut s = format!("exit {} ->", snap.index());
    assert_eq!(snap, expect, "machine code left through another exit than the evaluator");
    let live = t.live_values(snap);
    for e in t.entries(snap) {
        let ty = t.ir.ty(e.value);
        let raw = match live.iter().position(|r| *r == e.value) {
            Some(i) => {
                let got = buf.get(i);
                let want = vals[e.value.ins_index()];
                let mask = if ty.is_int32() { 0xffff_ffff } else { !0 };
                assert_eq!(got & mask, want & mask, "slot {} differs from the evaluator's", e.slot);
                got
            }
            None if e.value.is_const() => t.ir.k(e.value).bits,
            None => 0,
        };
        let b = box_bits(ty, raw);
        let _ = match ty.is_number() {
            true => write!(s, " {}={:?}", e.slot, f64::from_bits(b)),
            false => write!(s, " {}={b:x}", e.slot),
        };
    }
    s.push('\n');
    s
}

fn execute(src: &str) -> String {
    let mut out = String::new();
    let mut t = match text::parse(src) {
        Ok(t) => t,
        Err(e) => return format!("PARSE ERROR expected {}, found {}\n", e.expected, e.found),
    };
    for cmd in src.lines().filter_map(|l| l.strip_prefix(";!")) {
        let mut w = cmd.split_whitespace().peekable();
        while let Some(c) = w.next() {
            match c {
                "emit" => match emit(&t) {
                    Ok(n) => t = n,
                    Err(e) => return out + &e,
                },
                "loop" => {
                    let slots = slots_at_end(&t);
                    if let Err(a) = opt::unroll::run(&mut t, Passes::ALL, &slots) {
                        let _ = writeln!(out, "ABORT {}", a.text(None));
                    }
                }
                "dce" => opt::dce::run(&mut t),
                "sink" => opt::sink::run(&mut t),
                "print" => out.push_str(&text::print(&t)),
                "run" => {
                    let mut args = Vec::new();
                    while let Some(n) = w.next_if(|n| n.parse::<f64>().is_ok()) {
                        args.push(n.parse::<f64>().expect("checked"));
                    }
                    out.push_str(&run(&t, &args));
                }
                c => panic!("unknown command {c}"),
            }
            if let Err(b) = verify::verify(&t.ir) {
                let _ = writeln!(out, "VERIFY {:?} {}", b.at, b.what);
                return out + &text::print(&t);
            }
        }
    }
    out
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for e in std::fs::read_dir(dir).expect("test folder") {
        let p = e.expect("entry").path();
        if p.is_dir() {
            files(&p, out);
        } else if p.extension().is_some_and(|e| e == "tir") {
            out.push(p);
        }
    }
}

const MARK: &str = "---- expected\n";

#[test]
fn filetests_print_what_they_expect() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut list = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests"), &mut list);
    list.sort();
    assert!(!list.is_empty());
    let mut bad = String::new();
    for p in list {
        let all = std::fs::read_to_string(&p).expect("readable");
        let (src, expected) = all.split_once(MARK).unwrap_or((&all, ""));
        let got = execute(src);
        if got != expected {
            if bless {
                std::fs::write(&p, format!("{src}{MARK}{got}")).expect("writable");
            } else {
                let _ = write!(bad, "== {}\nexpected:\n{expected}got:\n{got}", p.display());
            }
        }
    }
    assert!(bad.is_empty(), "{bad}");
}
