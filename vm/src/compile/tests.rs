//! Bytecode shapes and messages against those of the reference implementation; random programs.

use super::compile;
use crate::bytecode::disasm;
use crate::bytecode::protodef::ProtoDef;
use crate::chunk::dump::{DumpOptions, dump};
use crate::chunk::undump::undump;
use crate::chunk::verify::verify;
use crate::syntax::SyntaxOptions;

const PLAIN: SyntaxOptions = SyntaxOptions { compat52: false, extensions: false };
const COMPAT52: SyntaxOptions = SyntaxOptions { compat52: true, extensions: false };
const EXTENDED: SyntaxOptions = SyntaxOptions { compat52: false, extensions: true };

/// Cases of a file: source, `--->`, expectation; `=====` between them.
fn cases(file: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut out = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        let (case, tail) = split_at(rest, b"\n=====\n").unwrap_or((rest.trim_ascii_end(), b""));
        out.push(split_at(case, b"\n--->\n").expect("a case has two parts"));
        rest = tail;
    }
    out
}

fn split_at<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(mark.len()).position(|w| w == mark)?;
    Some((&text[..at], &text[at + mark.len()..]))
}

fn listing(def: &ProtoDef) -> String {
    let mut out = Vec::new();
    disasm::list(def, &mut out);
    String::from_utf8_lossy(&out).trim().to_string()
}

fn message(source: &[u8], name: &[u8], options: SyntaxOptions) -> String {
    match compile(source, name, options) {
        Ok(_) => "ok".to_string(),
        Err(e) => String::from_utf8_lossy(&e.message).into_owned(),
    }
}

#[test]
fn bytecode_has_the_shape_of_the_reference() {
    for (source, want) in cases(include_bytes!("testdata/listings.txt")) {
        let got = match compile(source, b"@t", PLAIN) {
            Ok(def) => listing(&def),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, String::from_utf8_lossy(want), "\n{}", String::from_utf8_lossy(source));
    }
}

#[test]
fn messages_are_those_of_the_reference() {
    for (source, want) in cases(include_bytes!("testdata/errors.txt")) {
        let got = message(source, b"=x", PLAIN);
        assert_eq!(got, String::from_utf8_lossy(want), "\n{}", String::from_utf8_lossy(source));
    }
}

#[test]
fn limits_have_their_messages() {
    let names = |n: usize, sep: &str| (0..n).map(|i| format!("a{i}")).collect::<Vec<_>>().join(sep);
    let check = |source: String, want: &str| assert_eq!(message(source.as_bytes(), b"=x", PLAIN), want);
    check(format!("local {}", names(200, ",")), "ok");
    check(format!("local {}", names(201, ",")), "x:1: main function has more than 200 local variables");
    check(
        format!("function f({}) end", names(201, ",")),
        "x:1: function at line 1 has more than 200 local variables",
    );
    check(
        format!("local {}\nfunction f() return {} end", names(61, ","), names(61, "+")),
        "x:2: function at line 2 has more than 60 upvalues",
    );
    check(format!("f({}1)", "1,".repeat(300)), "x:1: function or expression too complex near '1'");
    check(format!("x={}", "(".repeat(300)), "x:1: chunk has too many syntax levels");
    check(format!("{}x=1", "a,".repeat(300)), "x:1: main function has more than 200 variable names");
    check(format!("while x do {} end", "x=1 ".repeat(40000)), "x:1: control structure too long near 'end'");
    let upvalues = format!("local {}\nfunction f() return {} end", names(61, ","), names(61, "+"));
    assert_eq!(message(upvalues.as_bytes(), b"=x", COMPAT52), "ok");
}

#[test]
fn flavour_52_reserves_goto_and_relaxes_break_and_calls() {
    assert_eq!(message(b"goto = 1", b"=x", PLAIN), "ok");
    assert_eq!(message(b"goto = 1", b"=x", COMPAT52), "x:1: '<name>' expected near '='");
    for source in ["while x do break; f() end", ";; f() ;;", "f\n(g)", "::a:: ;; goto a"] {
        assert_eq!(message(source.as_bytes(), b"=x", COMPAT52), "ok", "{source}");
        assert_ne!(message(source.as_bytes(), b"=x", PLAIN), "ok", "{source}");
    }
}

#[test]
fn lines_follow_the_tokens() {
    let def =
        compile(b"local a = f(\n1,\n2\n)\nlocal t = {\n x\n}\nreturn a +\n t", b"=x", PLAIN).expect("valid");
    // A last argument is loaded after the `)`, the call has the line of the `(`, and a lone name in
    // a table that of the next token.
    assert_eq!(def.lines, [1, 1, 2, 4, 1, 5, 7, 7, 9, 9]);
    assert_eq!(def.lastline, 9);
}

#[test]
fn locals_know_their_range_and_upvalues_their_origin() {
    let def =
        compile(b"local a = 1; local b; do local c = a end; b = function() return a, b end", b"=x", PLAIN)
            .expect("valid");
    let names: Vec<_> = def
        .locals
        .iter()
        .map(|l| (String::from_utf8_lossy(&l.name).into_owned(), l.startpc, l.endpc, l.slot))
        .collect();
    assert_eq!(names, [("a".into(), 2, 7, 0), ("b".into(), 3, 7, 1), ("c".into(), 4, 4, 2)]);
    let Some(crate::bytecode::protodef::KGc::Proto(child)) = def.kgc.first() else { panic!("a child") };
    assert_eq!(child.upvals, [0xc000, 0x8001]);
    assert_eq!(child.upvalue_names, [(*b"a").into(), (*b"b").into()]);
}

// -- Random programs.

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const NAMES: &[&str] = &["a", "b", "c", "d", "t", "pairs", "next", "x"];
const BINARY: &[&str] = &[
    "+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or", "??", "&", "|", "~",
    "<<", ">>", "~>>",
];

/// Writes programs that are grammatical, so that they reach the compiler.
struct Writer {
    rng: Rng,
    out: String,
    loops: usize,
}

impl Writer {
    fn word(&mut self, list: &[&str]) {
        let w = self.rng.pick(list);
        self.out.push(' ');
        self.out.push_str(w);
    }

    fn expr(&mut self, depth: usize) {
        let n = if depth == 0 { 7 } else { 20 };
        match self.rng.below(n) {
            0 => self.word(&["nil", "true", "false"]),
            1 => self.word(&["1", "0", "2.5", "300", "1e300", "7LL", "2i", "0x1p4"]),
            2 => self.word(&["'s'", "\"k\"", "[[long]]", "'x y'"]),
            3..=5 => self.word(NAMES),
            6 => self.word(&["...", "{}", "a.b", "a[1]"]),
            7..=10 => {
                self.expr(depth - 1);
                self.word(BINARY);
                self.expr(depth - 1);
            }
            11 => {
                self.word(&["not ", "-", "#", "~"]);
                self.expr(depth - 1);
            }
            12 => {
                self.out.push_str(" (");
                self.expr(depth - 1);
                self.out.push(')');
            }
            13 => {
                self.out.push_str(" {");
                for _ in 0..self.rng.below(4) {
                    self.word(&["", "x =", "[1] =", "[a] =", "['k'] =", "[nil] ="]);
                    self.expr(depth - 1);
                    self.out.push(',');
                }
                self.out.push('}');
            }
            14 => {
                self.out.push_str(" (");
                self.expr(depth - 1);
                self.out.push_str(" ? (");
                self.expr(depth - 1);
                self.out.push_str(") : ");
                self.expr(depth - 1);
                self.out.push(')');
            }
            15 => {
                self.word(&["function(...)", "function(a, b, ...)", "|x, ...| -> do"]);
                self.block(depth - 1);
                self.out.push_str(" end");
            }
            16 => {
                self.word(&["x ->", "|a, ...| ->"]);
                self.out.push_str(" (f(");
                // No `...` of a function that has none.
                self.word(NAMES);
                self.out.push_str("))");
            }
            _ => self.call(depth - 1),
        }
    }

    fn call(&mut self, depth: usize) {
        self.word(NAMES);
        for _ in 0..=self.rng.below(3) {
            let s = self.rng.pick(&[".x", "[1]", ":m", "?.y", "?.", "?.:m", ":m?.", ""]);
            self.out.push_str(s);
            if s.is_empty() || s.ends_with('m') || s.ends_with("?.") {
                self.out.push('(');
                for i in 0..self.rng.below(3) {
                    if i > 0 {
                        self.out.push(',');
                    }
                    self.expr(depth.min(2));
                }
                self.out.push(')');
            }
        }
        self.out.push_str("()");
    }

    fn block(&mut self, depth: usize) {
        self.out.push_str(" do");
        for _ in 0..self.rng.below(4) {
            self.statement(depth);
            self.out.push(';');
        }
        self.out.push_str(" end ");
    }

    fn statement(&mut self, depth: usize) {
        let n = if depth == 0 { 9 } else { 18 };
        let depth = depth.saturating_sub(1);
        match self.rng.below(n) {
            0..=2 => {
                self.word(&["local a =", "local b, c =", "local d, t =", "local x =", "const zz ="]);
                self.expr(depth);
            }
            3..=4 => {
                self.word(&["a =", "a, b =", "t.x, t[a] =", "a.b.c =", "t?.x =", "t[1], t =", "a, t?.y ="]);
                self.expr(depth);
                if self.rng.below(2) == 0 {
                    self.out.push(',');
                    self.expr(depth);
                }
            }
            5 => {
                self.word(NAMES);
                self.word(&["", ".x", "[a]", "?.y"]);
                self.word(&["+=", "-=", "*=", "..=", "~=", "<<=", "|="]);
                self.expr(depth);
            }
            6..=7 => self.call(depth),
            8 if self.loops > 0 => {
                self.out.push_str(" if a then");
                self.word(&["break", "continue"]);
                self.out.push_str(" end");
            }
            8 | 9 => {
                self.out.push_str(" do return");
                if self.rng.below(2) == 0 {
                    self.expr(depth);
                }
                self.out.push_str(" end");
            }
            10 => {
                self.out.push_str(" if");
                self.expr(depth);
                self.out.push_str(" then");
                self.block(depth);
                if self.rng.below(2) == 0 {
                    self.out.push_str(" else");
                    self.block(depth);
                }
                self.out.push_str(" end");
            }
            11..=14 => {
                let head =
                    self.rng.pick(&["while a do", "for i = 1, 3 do", "for k, v in pairs(t) do", "repeat"]);
                self.out.push(' ');
                self.out.push_str(head);
                self.loops += 1;
                self.block(depth);
                self.loops -= 1;
                if head == "repeat" {
                    self.out.push_str(" until");
                    self.expr(depth);
                } else {
                    self.out.push_str(" end");
                }
            }
            15 => {
                self.word(&["local function f(a, ...)", "function t.m(...)", "function t:m(b, ...)"]);
                let loops = std::mem::take(&mut self.loops);
                self.block(depth);
                self.loops = loops;
                self.out.push_str(" end");
            }
            16 => {
                let label = format!("l{}", self.rng.below(1 << 30));
                self.out.push_str(&format!(" ::{label}::"));
                self.block(depth);
                self.out.push_str(&format!(" if x then goto {label} end"));
            }
            _ => self.block(depth),
        }
    }
}

#[test]
fn random_programs_compile_to_valid_bytecode() {
    let mut writer = Writer { rng: Rng(0x1234_5678_9abc_def1), out: String::new(), loops: 0 };
    let mut compiled = 0;
    for _ in 0..3000 {
        writer.out.clear();
        for _ in 0..4 {
            writer.statement(4);
            writer.out.push(';');
        }
        let Ok(def) = compile(writer.out.as_bytes(), b"=x", EXTENDED) else { continue };
        compiled += 1;
        let mut checked = def.clone();
        verify(&mut checked).unwrap_or_else(|e| panic!("{e:?}\n{}\n{}", writer.out, listing(&def)));
        assert_eq!(checked, def, "{}", writer.out);
        let bytes = dump(&def, DumpOptions::default());
        assert_eq!(undump(&bytes, b"").as_ref(), Ok(&def), "{}", writer.out);
    }
    assert!(compiled > 1000, "most programs are valid: {compiled}");
}

#[test]
fn random_tokens_never_panic() {
    const TOKENS: &[&str] = &[
        "and", "break", "do", "else", "elseif", "end", "for", "function", "goto", "if", "in", "local", "nil",
        "not", "or", "repeat", "return", "then", "until", "while", "const", "continue", "a", "b", "x", "1",
        "'s'", "[[", "]]", "--", "--[[", "\n", "(", ")", "{", "}", "[", "]", ",", ";", "=", "==", "..",
        "...", ".", ":", "::", "?", "?.", "??", "->", "|", "||", "&", "~", "+=", "-", "#", "^", "\"", "\\",
        "0x", "1e", "\0", "\u{ff}",
    ];
    let mut rng = Rng(0xfeed_beef_cafe_f00d);
    let mut source = String::new();
    for _ in 0..20_000 {
        source.clear();
        for _ in 0..1 + rng.below(20) {
            source.push_str(rng.pick(TOKENS));
            source.push(' ');
        }
        for options in [PLAIN, COMPAT52, EXTENDED] {
            let _ = compile(source.as_bytes(), b"=x", options);
        }
    }
}
