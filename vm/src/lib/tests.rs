//! The registry as a whole: names, and what is there against what LuaJIT has.

use super::{ALL, base, debug, open_all, package, table};
use crate::state::Vm;
use crate::table::Table;

#[test]
fn row_names_are_unique_and_carry_their_library() {
    let mut seen = std::collections::HashSet::new();
    let more =
        [("_G", package::GLOBALS), ("_G", base::FNS52), ("table", table::MODULES), ("debug", debug::FNS52)];
    for (library, rows) in ALL.iter().chain(&more) {
        for row in *rows {
            assert!(seen.insert(row.name), "{} twice", row.name);
            let prefix = row.name.rsplit_once(['.', ':']).map_or("_G", |(p, _)| p);
            assert_eq!(prefix, *library, "{}", row.name);
        }
    }
}

/// Names of LuaJIT's libraries in 5.1 mode.
const WANTED: &[(&str, &str)] = &[
    (
        "_G",
        "assert collectgarbage dofile error gcinfo getfenv getmetatable ipairs load loadfile loadstring module \
         newproxy next pairs pcall print rawequal rawget rawset require select setfenv setmetatable tonumber \
         tostring type unpack xpcall _G _VERSION bit coroutine debug io jit math os package string table",
    ),
    ("string", "byte char dump find format gmatch gsub len lower match rep reverse sub upper"),
    ("table", "concat foreach foreachi getn insert maxn move remove sort"),
    (
        "math",
        "abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min modf pi pow \
         rad random randomseed sin sinh sqrt tan tanh",
    ),
    ("os", "clock date difftime execute exit getenv remove rename setlocale time tmpname"),
    ("io", "close flush input lines open output popen read stderr stdin stdout tmpfile type write"),
    (
        "debug",
        "debug getfenv gethook getinfo getlocal getmetatable getregistry getupvalue setfenv sethook setlocal \
         setmetatable setupvalue traceback upvalueid upvaluejoin",
    ),
    ("coroutine", "create isyieldable resume running status wrap yield"),
    ("package", "config cpath loaded loaders loadlib path preload searchpath seeall"),
    ("bit", "arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex"),
    ("jit", "arch attach flush off on os security status version version_num"),
];

fn fields(vm: &Vm, t: crate::cell::gc_ref::Gc<Table>) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while let Some((next, k, _)) = t.next_at(&vm.heap, at) {
        names.push(String::from_utf8_lossy(&vm.raw_text(k)).into_owned());
        at = next;
    }
    names.sort();
    names
}

#[test]
fn libraries_have_exactly_luajits_names() {
    let mut vm = Vm::new();
    open_all(&mut vm);
    for (library, names) in WANTED {
        let t = match *library {
            "_G" => vm.globals,
            name => vm.globals.get_bytes(&vm.heap, name.as_bytes()).as_obj().expect(name),
        };
        let mut wanted: Vec<String> = names.split_whitespace().map(str::to_string).collect();
        wanted.sort();
        assert_eq!(fields(&vm, t), wanted, "{library}");
    }
}

#[test]
fn compat52_adds_its_functions() {
    let mut vm = Vm::with_compat(true);
    open_all(&mut vm);
    for name in ["rawlen"] {
        assert!(!vm.globals.get_bytes(&vm.heap, name.as_bytes()).is_nil(), "{name}");
    }
    for (library, name) in [("table", "pack"), ("table", "unpack"), ("package", "searchers")] {
        let t: crate::cell::gc_ref::Gc<Table> =
            vm.globals.get_bytes(&vm.heap, library.as_bytes()).as_obj().expect(library);
        assert!(!t.get_bytes(&vm.heap, name.as_bytes()).is_nil(), "{library}.{name}");
    }
}

#[test]
fn compatibility_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../COMPATIBILITY.md");
    let want = super::catalogue::document();
    let page = std::fs::read_to_string(path).unwrap_or_default();
    // What was tried by hand follows behind what is generated.
    let at = page.find("\n## Tried libraries\n").unwrap_or(page.len());
    let (found, by_hand) = page.split_at(at);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, want.clone() + by_hand).expect("the page can be written");
        return;
    }
    assert!(found == want, "COMPATIBILITY.md is not what `lib::catalogue` makes; BLESS=1 writes it");
}
