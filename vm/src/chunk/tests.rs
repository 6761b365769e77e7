//! Round trips, hostile bytes.

use super::dump::{DumpOptions, dump};
use super::undump::{UndumpError, undump};
use super::verify::verify;
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::Op;
use crate::bytecode::protodef::{KGc, ProtoDef};
use crate::compile::compile;
use crate::syntax::SyntaxOptions;

const SOURCE: &[u8] = br#"
local up = 1
local function f(a, ...)
  local t = {1, 2, x = "y", [true] = 2.5, up, ...}
  for k, v in pairs(t) do if v == a then up = up + 1 else t[k] = nil end end
  for i = 1, #t do local j = i; t[i] = function() return j end end
  while up < 10 do up = up * 2; if up == 8 then break end end
  return f(...), 12LL, 3ULL, 2i, -1.5, "long enough"
end
goto done
do local x; f(function() x = 1 end) end
::done::
return (f{...}), f(1, f())
"#;

fn compiled(source: &[u8]) -> Box<ProtoDef> {
    compile(source, b"@t.lua", SyntaxOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_function_survives_dump_and_undump() {
    let def = compiled(SOURCE);
    let bytes = dump(&def, DumpOptions::default());
    assert_eq!(undump(&bytes, b"=other").as_ref(), Ok(&def));
    let stripped = dump(&def, DumpOptions { strip: true, deterministic: true });
    assert!(stripped.len() < bytes.len());
    let back = undump(&stripped, b"=other").expect("valid");
    assert_eq!(&*back.chunkname, b"=other");
    assert_eq!(back.code, def.code);
    assert!(back.lines.is_empty() && back.locals.is_empty());
}

#[test]
fn foreign_and_broken_files_are_told_apart() {
    assert_eq!(undump(b"\x1bLJ\x02", b"=x"), Err(UndumpError::Incompatible));
    let mut bytes = dump(&compiled(SOURCE), DumpOptions::default());
    bytes.truncate(bytes.len() - 1);
    assert_eq!(undump(&bytes, b"=x"), Err(UndumpError::Malformed));
    assert_eq!(UndumpError::Malformed.message(b"@f.luac"), b"f.luac: cannot load malformed bytecode");
    assert_eq!(UndumpError::Incompatible.message(b"\x1bML"), b"(binary): cannot load incompatible bytecode");
}

#[test]
fn patched_loops_are_written_in_their_original_form() {
    let mut def = compiled(b"for i = 1, 2 do end");
    let original = def.clone();
    for word in &mut def.code {
        let op = Instr(*word).op();
        let patched = match op {
            Op::FORL => Op::IFORL,
            Op::FORI => Op::JFORI,
            Op::FUNCV => Op::IFUNCV,
            op => op,
        };
        *word = Instr(*word).with_op(patched).0;
    }
    assert_ne!(def, original);
    assert_eq!(undump(&dump(&def, DumpOptions::default()), b""), Ok(original));
}

/// The rule that a changed function breaks.
fn broken(source: &[u8], change: impl FnOnce(&mut ProtoDef)) -> &'static str {
    let mut def = compiled(source);
    verify(&mut def).expect("compiled code is valid");
    change(&mut def);
    verify(&mut def).expect_err("the change must be noticed").rule
}

fn find(def: &ProtoDef, op: Op) -> usize {
    def.code.iter().position(|w| Instr(*w).op() == op).expect("the op is there")
}

#[test]
fn verifier_names_the_broken_rule() {
    let set = |op: Op, f: fn(Instr) -> Instr| {
        move |def: &mut ProtoDef| {
            let pc = find(def, op);
            def.code[pc] = f(Instr(def.code[pc])).0;
        }
    };
    assert_eq!(broken(b"local a = x", set(Op::GGET, |i| i.with_a(9))), "registers");
    assert_eq!(broken(b"local a = x", set(Op::GGET, |i| i.with_d(9))), "string constants");
    assert_eq!(broken(b"local a = x", set(Op::RET0, |i| i.with_op(Op::KSHORT))), "the end is not reached");
    assert_eq!(broken(b"goto a; ::a::", set(Op::JMP, |i| i.with_j(100))), "jumps stay inside");
    assert_eq!(
        broken(b"if x then y() end", set(Op::JMP, |i| i.with_op(Op::MOV).with_d(0))),
        "a test is followed by its jump"
    );
    assert_eq!(broken(b"f(g())", set(Op::CALLM, |i| i.with_c(3))), "operands lie in the frame");
    assert_eq!(
        broken(b"local a, b, c, d f(g())", set(Op::CALLM, |i| i.with_a(1))),
        "all values were just made"
    );
    assert_eq!(
        broken(b"for i = 1, 2 do end local a,b,c,d,e,f", set(Op::FORL, |i| i.with_a(1))),
        "FORI has its FORL"
    );
    assert_eq!(broken(b"while x do end", set(Op::LOOP, |i| i.with_op(Op::JLOOP))), "ops of compiled code");
    let fnew_then_return = b"do local x; f = function() x = 1 end end";
    assert_eq!(
        broken(fnew_then_return, set(Op::UCLO, |i| i.with_op(Op::JMP))),
        "upvalues are closed on the way out"
    );
    assert_eq!(
        broken(fnew_then_return, |def| if let KGc::Proto(p) = &mut def.kgc[0] {
            p.upvals[0] = 0x80f0
        }),
        "captured variables exist"
    );
    assert_eq!(broken(b"return 0.1", |def| def.knum[0] = f64::from_bits(!0)), "number constants");
}

#[test]
fn loop_over_next_that_is_tampered_with_becomes_plain() {
    let mut def = compiled(b"for k, v in next, t do local x = k end");
    verify(&mut def).expect("valid");
    let head = find(&def, Op::ISNEXT);
    find(&def, Op::ITERN);
    // The body writes the hidden table register.
    let body = find(&def, Op::MOV);
    def.code[body] = Instr(def.code[body]).with_a(1).0;
    verify(&mut def).expect("still harmless");
    assert_eq!(Instr(def.code[head]).op(), Op::JMP);
    find(&def, Op::ITERC);
    assert!(def.code.iter().all(|w| Instr(*w).op() != Op::ITERN));
}

/// A small deterministic generator of pseudo-random numbers.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

#[test]
fn mangled_files_never_panic_and_what_loads_is_valid() {
    let good = dump(&compiled(SOURCE), DumpOptions { strip: true, deterministic: true });
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut loaded = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..1 + rng.below(4) {
            let at = 5 + rng.below(bytes.len() - 5);
            match rng.below(4) {
                0 => bytes[at] = rng.below(256) as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes[at] = bytes[at].wrapping_add(1),
                _ => bytes.truncate(at),
            }
            if bytes.len() <= 5 {
                break;
            }
        }
        if let Ok(mut def) = undump(&bytes, b"=x") {
            loaded += 1;
            verify(&mut def).expect("what was loaded verifies again");
        }
    }
    assert!(loaded > 100, "some changes are harmless, {loaded} loaded");
}

/// Whatever the compiler makes of a loop passes; the same without its `LOOP` would be a loop that no limit ends.
#[test]
fn a_loop_that_looks_at_no_limit_is_refused() {
    for source in [
        "while x do if y then break end end",
        "repeat local z = 1 f(function() return z end) until x",
        "::a:: local n = 1 if n > x then goto a end",
        "::a:: do local z f(function() return z end) do goto a end end",
        "while x do local z f(function() return z end) if y then continue end end",
        "for i = 1, 2 do for k in pairs(x) do for k in f do end end end",
        "while true do end",
        "repeat until false",
    ] {
        let def = compiled(source.as_bytes());
        let mut same = def.clone();
        assert_eq!(verify(&mut same), Ok(()), "{source}");
        let mut without = def.clone();
        for word in &mut without.code {
            if Instr(*word).op() == Op::LOOP {
                *word = Instr::aj(Op::JMP, Instr(*word).a(), 0).0;
            }
        }
        if without.code != def.code {
            let rule = verify(&mut without).expect_err(source).rule;
            assert_eq!(rule, "loops look at the limits", "{source}");
        }
    }
}
