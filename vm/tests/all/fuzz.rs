//! Bad input, made up: mutations of a small corpus (`tests/corpus/TARGET/`) and of the Lua cases, and generated programs,
//! against every part that reads what comes from outside. A run is short and always the same; longer ones:
//!
//! ```text
//! FUZZ_SECONDS=600 [FUZZ_TARGET=bytecode] [FUZZ_SEED=7] cargo test -p moonlit-vm --test all fuzz
//! ```
//! What counts as a failure: a panic (caught or not), a run that does not end, a broken promise of the target. The input
//! at hand is in `target/tmp/fuzz-TARGET.bin` at any time, so a crash can be looked into.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moonlit_vm::chunk::{dump, undump};
use moonlit_vm::compile::compile;
use moonlit_vm::host::native::{DumpOptions, Value, Vm};
use moonlit_vm::syntax::SyntaxOptions;

/// Inputs of a short run, for each target.
const SHORT: usize = 150;
/// Longest input, bytes.
const INPUT_MAX: usize = 1 << 14;
/// Back edges and calls an input may take.
const FUEL: u64 = 20_000;
/// Memory an input may use, bytes, beyond what the machine needs itself.
const MEMORY: usize = 24 << 20;
/// An input that takes longer has hung.
const HANG: Duration = Duration::from_secs(120);
/// Inputs after which the machine is a new one.
const VM_LIFE: usize = 100;

/// xorshift64*: good enough, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() >> 33) as usize % n }
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    fn word(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// One part under test.
struct Target {
    name: &'static str,
    /// Words that mean something there.
    words: &'static [&'static str],
    /// Makes an input up; `None` to mutate only.
    generate: Option<fn(&mut Rng) -> Vec<u8>>,
    run: fn(&mut Machine, &[u8]),
}

/// The machine under test, renewed now and then.
struct Machine {
    vm: Box<Vm>,
    uses: usize,
}

impl Machine {
    fn new() -> Machine {
        let mut vm = Vm::with_compat(false);
        moonlit_vm::lib::open_all(&mut vm);
        // Nothing that reaches outside.
        for name in ["os", "io", "dofile", "loadfile", "require", "package", "module"] {
            let key = Value::obj(vm.heap.str(name.as_bytes()));
            let globals = vm.globals;
            globals.setv(&mut vm.heap, key, Value::NIL).expect("a string is a key");
        }
        let quiet = vm.load(b"print = function() end", b"=quiet", b"t", None).expect("it compiles");
        vm.call(Value::obj(quiet), &[]).ok().expect("it runs");
        Machine { vm, uses: 0 }
    }

    fn fresh(&mut self) -> &mut Vm {
        self.uses += 1;
        if self.uses > VM_LIFE {
            *self = Machine::new();
        }
        let vm = &mut self.vm;
        vm.set_fuel(Some(FUEL));
        let limit = vm.heap.total_bytes() + MEMORY;
        vm.heap.acct.limit = limit;
        vm
    }

    /// Runs a function; what it raises must not be a caught panic.
    fn call(&mut self, f: Value, args: &[Value]) -> Option<Vec<Value>> {
        match self.vm.call(f, args) {
            Ok(v) => Some(v),
            Err(_) => {
                let err = self.vm.take_error();
                let text = self.vm.raw_text(err);
                let text = String::from_utf8_lossy(&text);
                assert!(!text.contains("panic in native function"), "{text}");
                assert!(!text.contains("internal error"), "{text}");
                None
            }
        }
    }

    /// Runs Lua code with the input as its argument.
    fn script(&mut self, code: &str, input: &[u8]) -> Option<Vec<Value>> {
        let vm = self.fresh();
        let f = vm.load(code.as_bytes(), b"=fuzz", b"t", None).expect("the script is right");
        let s = Value::obj(vm.heap.str(input));
        self.call(Value::obj(f), &[s])
    }
}

const LUA_WORDS: &[&str] = &[
    "local ",
    "function",
    "end",
    "do ",
    "while ",
    "repeat ",
    "until ",
    "for ",
    "in ",
    "if ",
    "then ",
    "else ",
    "elseif ",
    "return ",
    "break ",
    "goto ",
    "::a::",
    "nil",
    "true",
    "false",
    "and ",
    "or ",
    "not ",
    "...",
    "..",
    "==",
    "~=",
    "<=",
    ">=",
    "<<",
    ">>",
    "~>>",
    "??",
    "?.",
    "+=",
    "..=",
    "->",
    "||",
    "&&",
    "!",
    "~",
    "&",
    "|",
    "const ",
    "continue ",
    "[[",
    "]]",
    "[=[",
    "]=]",
    "--[[",
    "--",
    "'",
    "\"",
    "\\",
    "\\x41",
    "\\u{10FFFF}",
    "\\z",
    "0x1p4",
    "1e308",
    "0xffffffffffffffffULL",
    "1i",
    "1LL",
    "1_000",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ":",
    ",",
    "=",
    "#",
    "%",
    "^",
    "-",
    "*",
    "/",
    "a",
    "b",
    "self",
    "_G",
    "\n",
    "\0",
    "\u{feff}",
];

const TARGETS: &[Target] = &[
    Target { name: "compile", words: LUA_WORDS, generate: Some(program), run: compile_target },
    Target { name: "run", words: LUA_WORDS, generate: Some(program), run: run_target },
    Target { name: "bytecode", words: &["\u{1b}LJ"], generate: None, run: bytecode_target },
    Target {
        name: "pattern",
        words: &[
            "%", "%a", "%d", "%w", "%s", "%S", "%b()", "%f[%w]", "[", "]", "[^", "^", "$", "(", ")", "()",
            ".", "*", "+", "-", "?", "%1", "%2", "[%a-z]", "[]]", "[^]]", "a", "\0", "[a-", "%z", "%g",
        ],
        generate: None,
        run: pattern_target,
    },
    Target {
        name: "format",
        words: &[
            "%", "%d", "%5.2s", "%q", "%a", "%A", "%g", "%.99f", "%99d", "%+", "%-", "% ", "%#x", "%c", "%p",
            "%s", "%i", "%u", "%o", "%e", "%%", "%100d", "%.100f", "%0", "\0", "%F", "%y",
        ],
        generate: None,
        run: format_target,
    },
    Target {
        name: "cjson",
        words: &[
            "{", "}", "[", "]", ":", ",", "\"", "\\u0000", "\\ud800", "\\udc00", "null", "true", "false",
            "nan", "-inf", "1e999", "-0", "0x10", "1E5", "{\"a\":", "[[[[", "\\", "/*", " ", "\u{0}", "1.",
            ".5",
        ],
        generate: None,
        run: cjson_target,
    },
    Target {
        name: "buffer",
        words: &["\u{8}", "\u{e}", "\u{f}", "\u{10}"],
        generate: None,
        run: buffer_target,
    },
    Target {
        name: "number",
        words: &[
            "0x", "0b", "e", "E", "p", "P", ".", "+", "-", "inf", "nan", "LL", "i", "_", "0", "9", "f", " ",
        ],
        generate: None,
        run: number_target,
    },
];

/// What compiles, dumps; the dump loads again and is the same.
fn compile_target(_: &mut Machine, input: &[u8]) {
    let Ok(def) = compile(input, b"@fuzz", SyntaxOptions::default()) else { return };
    for strip in [false, true] {
        let options = DumpOptions { strip, deterministic: true };
        let bytes = dump::dump(&def, options);
        let back = undump::undump(&bytes, b"@fuzz").expect("what the compiler makes is accepted");
        assert_eq!(dump::dump(&back, options), bytes, "a dump changes on its way");
    }
}

/// Runs a program, with everything that has no way out.
fn run_target(m: &mut Machine, input: &[u8]) {
    let vm = m.fresh();
    let Ok(f) = vm.load(input, b"@fuzz", b"t", None) else { return };
    m.call(Value::obj(f), &[]);
    // What it did to the globals is gone with the machine.
    m.uses = VM_LIFE;
    m.vm.set_hook(Value::NIL, 0, 0);
    m.vm.close();
}

/// Loads bytes as bytecode; what is accepted, runs.
fn bytecode_target(m: &mut Machine, input: &[u8]) {
    let mut code = dump_of_seed(input);
    if code.is_empty() {
        code = input.to_vec();
    }
    let vm = m.fresh();
    if let Ok(f) = vm.load(&code, b"@fuzz", b"b", None) {
        m.call(Value::obj(f), &[]);
        m.uses = VM_LIFE;
    }
}

/// A seed that is source stands for its bytecode with some bytes changed.
fn dump_of_seed(input: &[u8]) -> Vec<u8> {
    let Some(at) = input.iter().rposition(|&c| c == b'\n') else { return Vec::new() };
    let (source, changes) = input.split_at(at);
    let Ok(def) = compile(source, b"@f", SyntaxOptions::default()) else { return Vec::new() };
    let mut code = dump::dump(&def, DumpOptions { strip: changes.len() % 2 == 0, deterministic: true });
    let mut rng =
        Rng(changes.iter().fold(0x9e37_79b9_7f4a_7c15, |h, &c| (h ^ c as u64).wrapping_mul(0x100_0000_01b3))
            | 1);
    for _ in 0..rng.below(6) {
        let at = rng.below(code.len());
        match rng.below(4) {
            0 => code[at] = rng.next() as u8,
            1 => code[at] = code[at].wrapping_add(1),
            2 => code[at] ^= 1 << rng.below(8),
            _ => code[at] = *rng.pick(&[0, 1, 2, 0x7f, 0x80, 0xff]),
        }
    }
    code
}

fn pattern_target(m: &mut Machine, input: &[u8]) {
    const CODE: &str = "local s = ... \
        local cut = (#s % 7) + 1 \
        local p, subject = s:sub(1, #s // 1 and #s - cut), s:rep(3) .. 'aaaa(bb)c  12 x=1' \
        pcall(string.find, subject, p) pcall(string.match, subject, p, 2) \
        pcall(string.gsub, subject, p, '%0%1') pcall(string.gsub, subject, p, s) \
        pcall(function() local n = 0 for _ in subject:gmatch(p) do n = n + 1 if n > 50 then break end end end)";
    // The language has no integer division.
    m.script(&CODE.replace("#s // 1 and ", ""), input);
}

fn format_target(m: &mut Machine, input: &[u8]) {
    m.script(
        "local s = ... \
         local v = { 1, -1.5, 'text\\0more', 2^53, 1/0, 0/0, true, nil, {}, print, '12', -0.0 } \
         for i = 1, 11, 3 do pcall(string.format, s, v[i], v[i + 1], v[i + 2], v[1]) end \
         local q = string.format('%q', s) \
         assert(loadstring('return ' .. q)() == s, 'a quoted string reads back')",
        input,
    )
    .expect("quoting works for every string");
}

fn cjson_target(m: &mut Machine, input: &[u8]) {
    if m.vm.global(b"cjson").is_nil() {
        install(m, "cjson");
    }
    m.script(
        "local ok, v = pcall(cjson.decode, ...) \
         if ok then \
           local ok, text = pcall(cjson.encode, v) \
           if ok then assert(pcall(cjson.decode, text), text) end \
         end",
        input,
    );
}

fn buffer_target(m: &mut Machine, input: &[u8]) {
    if m.vm.global(b"buffer").is_nil() {
        install(m, "buffer");
    }
    m.script(
        "local s = ... \
         local ok, v = pcall(buffer.decode, s) \
         if ok then local ok, text = pcall(buffer.encode, v) if ok then buffer.decode(text) end end \
         local b = buffer.new() b:put(s) \
         pcall(function() for i = 1, 5 do b:decode() end end) \
         pcall(b.get, b, #s % 5, #s) b:skip(3) b:reset()",
        input,
    );
}

/// Puts a module that only `require` shows into a global.
fn install(m: &mut Machine, global: &str) {
    let module = if global == "buffer" { "string.buffer" } else { global };
    let vm = m.fresh();
    let preload = vm.registry.get_bytes(&vm.heap, b"_PRELOAD").as_obj::<moonlit_vm::table::Table>();
    let loader = preload.expect("there are modules").get_bytes(&vm.heap, module.as_bytes());
    let name = Value::obj(vm.heap.str(module.as_bytes()));
    let made = vm.call(loader, &[name]).ok().expect("the module loads");
    let key = Value::obj(vm.heap.str(global.as_bytes()));
    let globals = vm.globals;
    globals.setv(&mut vm.heap, key, made[0]).expect("a string is a key");
}

fn number_target(m: &mut Machine, input: &[u8]) {
    m.script(
        "local s = ... \
         local n = tonumber(s) \
         if n and n == n then assert(tonumber(string.format('%.17g', n)) == n, s) end \
         for b = 2, 36, 17 do tonumber(s, b) end \
         local f = loadstring('return ' .. s:gsub('[^%w.+-]', '')) \
         if f then pcall(f) end",
        input,
    )
    .expect("numbers read back");
}

// Making inputs.

/// A program of the grammar: deep rather than sensible.
fn program(rng: &mut Rng) -> Vec<u8> {
    let mut out = String::new();
    let mut budget = 20 + rng.below(150) as i32;
    block(rng, &mut out, &mut budget, 0, false);
    out.into_bytes()
}

fn name(rng: &mut Rng) -> &'static str {
    rng.word(&[
        "a",
        "b",
        "c",
        "d",
        "t",
        "f",
        "print",
        "string",
        "math",
        "setmetatable",
        "_G",
        "select",
        "pcall",
    ])
}

fn block(rng: &mut Rng, out: &mut String, budget: &mut i32, depth: usize, in_loop: bool) {
    for _ in 0..1 + rng.below(5) {
        *budget -= 1;
        if *budget < 0 {
            break;
        }
        statement(rng, out, budget, depth + 1, in_loop);
        out.push('\n');
    }
    match rng.below(12) {
        0 => {
            out.push_str("return ");
            list(rng, out, budget, depth + 1);
        }
        1 if in_loop => out.push_str("break"),
        2 if in_loop => out.push_str("continue"),
        _ => {}
    }
    out.push('\n');
}

fn list(rng: &mut Rng, out: &mut String, budget: &mut i32, depth: usize) {
    for i in 0..1 + rng.below(3) {
        if i > 0 {
            out.push_str(", ");
        }
        expression(rng, out, budget, depth + 1);
    }
}

fn body(rng: &mut Rng, out: &mut String, budget: &mut i32, depth: usize) {
    out.push_str(rng.word(&["(a, b)", "()", "(...)", "(a, ...)", "(a)"]));
    out.push('\n');
    block(rng, out, budget, depth, false);
    out.push_str(" end");
}

fn statement(rng: &mut Rng, out: &mut String, budget: &mut i32, depth: usize, in_loop: bool) {
    if depth > 12 {
        out.push_str("a = 1");
        return;
    }
    match rng.below(16) {
        0 | 1 => {
            out.push_str(rng.word(&["local a, b", "local c", "const d", "local t, f"]));
            out.push_str(" = ");
            list(rng, out, budget, depth);
        }
        2 | 3 => {
            out.push_str(rng.word(&["a", "b, c", "t.x", "t[a], b", "t.a.b", "_G.c", "t[1]"]));
            out.push_str(" = ");
            list(rng, out, budget, depth);
        }
        4 => {
            out.push_str(rng.word(&["a", "t.x", "t[b]", "c"]));
            out.push_str(rng.word(&[" += ", " ..= ", " -= ", " |= ", " <<= "]));
            expression(rng, out, budget, depth);
        }
        5 => {
            out.push_str("if ");
            expression(rng, out, budget, depth);
            out.push_str(" then\n");
            block(rng, out, budget, depth, in_loop);
            if rng.chance(50) {
                out.push_str("else\n");
                block(rng, out, budget, depth, in_loop);
            }
            out.push_str("end");
        }
        6 => {
            out.push_str(rng.word(&[
                "for a = 1, 5 do\n",
                "for b = 3, 1, -1 do\n",
                "for c = 1, 0.5, 0.1 do\n",
            ]));
            block(rng, out, budget, depth, true);
            out.push_str("end");
        }
        7 => {
            out.push_str(rng.word(&["for a, b in pairs(", "for a, b in ipairs(", "for a in next, ("]));
            expression(rng, out, budget, depth);
            out.push_str(") do\n");
            block(rng, out, budget, depth, true);
            out.push_str("end");
        }
        8 => {
            out.push_str("while ");
            expression(rng, out, budget, depth);
            out.push_str(" do\n");
            block(rng, out, budget, depth, true);
            out.push_str("end");
        }
        9 => {
            out.push_str("repeat\n");
            block(rng, out, budget, depth, false);
            out.push_str("until ");
            expression(rng, out, budget, depth);
        }
        10 => {
            out.push_str(rng.word(&["local function f", "function f", "function t.x", "function t:y"]));
            body(rng, out, budget, depth);
        }
        11 => {
            out.push_str("do\n");
            block(rng, out, budget, depth, in_loop);
            out.push_str("end");
        }
        12 => out.push_str(rng.word(&["goto z", "::z::", "goto q", "::q::"])),
        _ => {
            out.push_str(name(rng));
            out.push('(');
            list(rng, out, budget, depth);
            out.push(')');
        }
    }
}

fn expression(rng: &mut Rng, out: &mut String, budget: &mut i32, depth: usize) {
    *budget -= 1;
    let leaf = depth > 12 || *budget < 0;
    match if leaf { rng.below(4) } else { rng.below(15) } {
        0 => out.push_str(
            rng.word(&["nil", "true", "false", "1", "0.5", "-3", "1e300", "'x'", "'12'", "[[l]]", "255"]),
        ),
        1 | 2 => out.push_str(name(rng)),
        3 => out.push_str(rng.word(&["t.x", "t[1]", "a.b", "#t", "t.y", "{}", "t?.x"])),
        4..=6 => {
            out.push('(');
            expression(rng, out, budget, depth + 1);
            out.push_str(rng.word(&[
                " + ", " - ", " * ", " / ", " % ", " ^ ", " .. ", " == ", " ~= ", " < ", " <= ", " > ",
                " and ", " or ", " & ", " | ", " ~ ", " << ", " >> ", " ?? ",
            ]));
            expression(rng, out, budget, depth + 1);
            out.push(')');
        }
        7 => {
            out.push_str(rng.word(&["not ", "-", "#", "~"]));
            expression(rng, out, budget, depth + 1);
        }
        8 => {
            out.push('{');
            for _ in 0..rng.below(4) {
                out.push_str(rng.word(&["", "x = ", "[a] = ", "[1] = ", "y = "]));
                expression(rng, out, budget, depth + 1);
                out.push_str(", ");
            }
            out.push_str(rng.word(&["", "f()", "nil"]));
            out.push('}');
        }
        9 => {
            out.push_str("function");
            body(rng, out, budget, depth + 1);
        }
        10 => {
            out.push_str(rng.word(&["(...)", "...", "(f())", "select('#', ...)"]));
        }
        11 => {
            out.push('(');
            expression(rng, out, budget, depth + 1);
            out.push_str(" ? ");
            expression(rng, out, budget, depth + 1);
            out.push_str(" : ");
            expression(rng, out, budget, depth + 1);
            out.push(')');
        }
        12 => {
            out.push_str(rng.word(&[
                "setmetatable({}, {__index = ",
                "pcall(",
                "coroutine.wrap(",
                "tostring(",
                "table.concat(",
                "string.rep('ab', ",
                "xpcall(",
                "unpack(",
                "loadstring(",
                "table.sort(",
            ]));
            let open = out.matches('{').count() > out.matches('}').count();
            expression(rng, out, budget, depth + 1);
            out.push_str(if open && out.contains("__index = ") { "}" } else { "" });
            out.push(')');
        }
        _ => {
            out.push_str(name(rng));
            out.push('(');
            expression(rng, out, budget, depth + 1);
            out.push(')');
        }
    }
}

fn mutate(rng: &mut Rng, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut s = rng.pick(seeds).clone();
    if s.len() > 2000 && rng.chance(80) {
        // A piece is more to the point.
        let at = rng.below(s.len() - 1000);
        s = s[at..at + 1000].to_vec();
    }
    for _ in 0..1 + rng.below(8) {
        let at = rng.below(s.len() + 1);
        match rng.below(9) {
            0 if at < s.len() => s[at] = rng.next() as u8,
            1 if at < s.len() => s[at] ^= 1 << rng.below(8),
            2 => {
                let end = (at + rng.below(16)).min(s.len());
                s.drain(at..end);
            }
            3 => {
                let end = (at + rng.below(40)).min(s.len());
                let piece = s[at..end].to_vec();
                for _ in 0..1 + rng.below(20) {
                    s.splice(at..at, piece.iter().copied());
                }
            }
            4 => {
                let other = rng.pick(seeds);
                let from = rng.below(other.len() + 1);
                let to = (from + rng.below(60)).min(other.len());
                s.splice(at..at, other[from..to].iter().copied());
            }
            5 => s.truncate(at),
            _ => {
                let word = rng.pick(words);
                s.splice(at..at, word.bytes());
            }
        }
        if s.len() > INPUT_MAX {
            s.truncate(INPUT_MAX);
        }
    }
    s
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut out = vec![Vec::new()];
    let mut folders = vec![root.join("tests/corpus").join(target)];
    if matches!(target, "compile" | "run" | "bytecode") {
        folders.extend(["lang", "lib", "errors"].map(|d| root.join("../lua-tests").join(d)));
    }
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        files.retain(|p| p.extension().is_none_or(|x| x != "out"));
        files.sort();
        out.extend(files.iter().filter_map(|p| std::fs::read(p).ok()));
    }
    out
}

fn fuzz(name: &str) {
    let wanted = std::env::var("FUZZ_TARGET").ok();
    if wanted.is_some_and(|w| w != name) {
        return;
    }
    let number = |var: &str| std::env::var(var).ok().and_then(|v| v.parse::<u64>().ok());
    let seconds = number("FUZZ_SECONDS");
    let target = TARGETS.iter().find(|t| t.name == name).expect("a target of this name");
    let seeds = seeds(name);
    let mut rng = Rng(number("FUZZ_SEED").unwrap_or(0x5eed) << 1 | 1);
    for _ in 0..8 {
        rng.next();
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let at_hand = folder.join(format!("fuzz-{name}.bin"));
    // A run that hangs is ended from outside, with its input saved.
    let progress = Arc::new(AtomicU64::new(0));
    let seen = progress.clone();
    let hung = at_hand.clone();
    std::thread::spawn(move || {
        let mut last = 0;
        loop {
            std::thread::sleep(HANG);
            let now = seen.load(Ordering::Relaxed);
            if now == u64::MAX {
                return;
            }
            if now == last {
                eprintln!("an input does not end: {}", hung.display());
                std::process::abort();
            }
            last = now;
        }
    });
    let mut machine = Machine::new();
    let start = Instant::now();
    let mut n = 0;
    loop {
        match seconds {
            Some(s) if start.elapsed().as_secs() >= s => break,
            None if n >= SHORT => break,
            _ => {}
        }
        // The corpus itself comes first.
        let input = match seeds.get(n) {
            Some(s) => s.clone(),
            None => match target.generate {
                Some(make) if rng.chance(50) => make(&mut rng),
                _ => mutate(&mut rng, &seeds, target.words),
            },
        };
        n += 1;
        progress.store(n as u64, Ordering::Relaxed);
        std::fs::write(&at_hand, &input).expect("the folder for temporary files is there");
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&mut machine, &input))).is_err() {
            let kept = folder.join(format!("fuzz-{name}-failed.bin"));
            std::fs::write(&kept, &input).expect("the folder for temporary files is there");
            panic!("target {name}, input {n} ({}):\n{}", kept.display(), String::from_utf8_lossy(&input));
        }
    }
    progress.store(u64::MAX, Ordering::Relaxed);
    if seconds.is_some() {
        eprintln!("fuzz {name}: {n} inputs in {} s", start.elapsed().as_secs());
    }
}

#[test]
fn fuzz_compile_dumps_what_it_accepts() {
    fuzz("compile");
}

#[test]
fn fuzz_programs_end_within_their_limits() {
    fuzz("run");
}

#[test]
fn fuzz_bytecode_is_refused_or_runs() {
    fuzz("bytecode");
}

#[test]
fn fuzz_patterns_match_or_fail() {
    fuzz("pattern");
}

#[test]
fn fuzz_formats_are_right_or_refused() {
    fuzz("format");
}

#[test]
fn fuzz_cjson_reads_what_it_wrote() {
    fuzz("cjson");
}

#[test]
fn fuzz_buffers_decode_or_fail() {
    fuzz("buffer");
}

#[test]
fn fuzz_numbers_read_back() {
    fuzz("number");
}
