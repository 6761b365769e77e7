//! Made-up C declarations: mutations of real ones, and what a program does with the types they declare. A run is short and
//! always the same; `MOONLIT_FUZZ_SECONDS=600 cargo test -p moonlit-ffi --test main fuzz` makes a longer one.
//!
//! What counts as a failure: a panic, a run that does not end (the input at hand is in `target/tmp/fuzz-cdef.txt`), a refused
//! declaration that leaves something declared.

use super::lua::{Machine, lua_quote};
use moonlit_ffi::cparse::{declare, parse_type};
use moonlit_ffi::ctype::CTypeTable;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const CORPUS: &[&str] = &[
    include_str!("headers/curl.h"),
    include_str!("headers/uv.h"),
    include_str!("headers/zlib.h"),
    include_str!("headers/sqlite3.h"),
    "#pragma pack(push, 1)\nstruct __attribute__((packed, aligned(4))) p { int a : 3, : 0, b : 5; long long c : 40; };\n#pragma pack(pop)\n\
     typedef float v4 __attribute__((vector_size(16))); typedef int (*fp[3])(int (*)(void), ...); complex double cd; complex float cf;\n\
     union u { struct { int x, y; }; double d[2]; char s[sizeof(\"text\") + 'a' - 'b']; }; extern int v __asm__(\"w\");\n\
     enum e { A = -1, B = A << 3 | 7, C = (B ? 1 : 2) % 3, D = sizeof(struct p *) * ~0u >> 2 }; static const int K = 0x7f, L = 017;\n\
     struct vls { int n; struct { double d; } tail[?]; }; __extension__ typedef long long ll __attribute__((mode(DI), aligned(16)));\n\
     int __cdecl f1(const char *restrict, va_list) __attribute__((noreturn)); int &ref; _Bool flag; __int64 wide; void *volatile *pp;\n",
];

const WORDS: &[&str] = &[
    "int",
    "unsigned",
    "long",
    "char",
    "struct",
    "union",
    "enum",
    "typedef",
    "static const int X = ",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "[?]",
    "*",
    "&",
    ",",
    ";",
    ":",
    ": 0",
    "= 1",
    "...",
    "?",
    "sizeof(",
    "__attribute__((packed))",
    "__attribute__((aligned(",
    "__attribute__((vector_size(16)))",
    "__attribute__((mode(TI)))",
    "0x7fffffff",
    "0x80000000",
    "4294967295",
    "-1",
    "0",
    "1e5",
    "'\\x41'",
    "\"s\"",
    "#pragma pack(2)\n",
    "#pragma pack(pop)\n",
    "# 1 \"f\"\n",
    "/*",
    "*/",
    "//",
    "\\\n",
    "$",
    "complex",
    "void",
    "bool",
    "extern",
    "const",
    "volatile",
    "__asm__(\"x\")",
    "<<",
    "/ 0",
    "% 0",
    "\0",
    "\u{e9}",
    "...)",
    "struct p",
    "enum e",
    "v4",
];

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n.max(1)
    }
}

/// Splits into words, numbers, blanks and single signs.
fn tokens(source: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let n = if word(first) { rest.find(|c| !word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        out.push(&rest[..n]);
        rest = &rest[n..];
    }
    out
}

/// Declarations of the corpus, up to some point, changed here and there.
fn mutated(r: &mut Random) -> String {
    let all = tokens(CORPUS[r.below(CORPUS.len())]);
    // Mostly whole declarations: of changes in many places, the first is all that is read.
    let ends: Vec<usize> = (0..all.len()).filter(|&i| all[i] == ";").collect();
    let end = ends.get(r.below(ends.len())).map_or(all.len(), |e| e + 1);
    let from = if r.below(4) == 0 { r.below(end) } else { 0 };
    let mut list: Vec<&str> = all[from..end].to_vec();
    for _ in 0..r.below(5) {
        // Most often near the end, so that much was declared before.
        let at =
            if r.below(3) == 0 { r.below(list.len()) } else { list.len().saturating_sub(1 + r.below(40)) };
        match r.below(6) {
            0 if !list.is_empty() => drop(list.remove(at)),
            1 => list.insert(at, WORDS[r.below(WORDS.len())]),
            2 if !list.is_empty() => list[at] = WORDS[r.below(WORDS.len())],
            3 if !list.is_empty() => {
                let other = r.below(list.len());
                list.swap(at, other);
            }
            4 => {
                let piece = list[at..(at + r.below(30)).min(list.len())].to_vec();
                let times = if r.below(10) == 0 { 400 } else { 4 };
                for _ in 0..1 + r.below(times) {
                    list.splice(at..at, piece.iter().copied());
                }
            }
            _ => list.truncate(at + 30),
        }
    }
    list.concat()
}

/// What a program does with everything that may have been declared.
const USES: &str = "
local names = {}
for tag, name in source:gmatch('([a-z]*)%s+([%a_][%w_]*)') do
  names[#names + 1] = name
  if tag == 'struct' or tag == 'union' or tag == 'enum' then names[#names + 1] = tag .. ' ' .. name end
end
for i = 1, math.min(#names, 60) do
  local ok, ct = pcall(ffi.typeof, names[i])
  if ok then
    local sized, size = pcall(ffi.sizeof, ct)
    local _ = tostring(ct), ffi.alignof(ct), ffi.offsetof(ct, 'a')
    if sized and size and size < 100000 then
      local made, o = pcall(ct)
      if made then
        _ = pcall(tostring, o)
        for k = 1, math.min(#names, 20) do pcall(function() local v = o[names[k]] o[names[k]] = v end) end
        pcall(ffi.new, ct, o)
        pcall(ffi.new, ct, { 1, 2 })
      end
    end
  end
  pcall(function() return ffi.C[names[i]] end)
end";

#[test]
fn mutated_declarations_end_in_answers() {
    let seconds = std::env::var("MOONLIT_FUZZ_SECONDS").ok().and_then(|s| s.parse::<u64>().ok());
    let at_hand = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz-cdef.txt");
    let seed = seconds.map_or(1, |_| u64::from(std::process::id()));
    let mut r = Random(0x9e37_79b9_7f4a_7c15 ^ seed << 32);
    let start = Instant::now();
    let (mut n, mut accepted) = (0u64, 0u64);
    let mut m = Machine::new();
    loop {
        match seconds {
            Some(s) if start.elapsed() >= Duration::from_secs(s) => break,
            None if n >= 300 => break,
            _ => {}
        }
        n += 1;
        let source = mutated(&mut r);
        if seconds.is_some() {
            std::fs::write(&at_hand, &source).expect("the folder for temporary files is there");
        }
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut table = CTypeTable::default();
            let ok = declare(&mut table, source.as_bytes(), &[]).is_ok();
            let _ = parse_type(&mut table, source.as_bytes(), &[]);
            ok
        }));
        accepted += u64::from(done.unwrap_or_else(|_| panic!("input {n}:\n{source}")));
        if n.is_multiple_of(50) {
            m = Machine::new();
        }
        let program = format!(
            "local source = {} local ok, e = pcall(ffi.cdef, source) {USES} return ok, e",
            lua_quote(&source)
        );
        let result = m.run(&program);
        assert!(
            !result.contains("panic") && !result.contains("internal error") && !result.starts_with("error: "),
            "input {n}: {result}\n{source}"
        );
    }
    assert!(accepted * 10 > n, "{accepted} of {n} accepted");
    if seconds.is_some() {
        eprintln!("fuzz cdef: {n} inputs, {accepted} accepted, in {} s", start.elapsed().as_secs());
    }
}
