//! Checks of the house rules over the source tree: layers point downward, `unsafe` stays in listed files,
//! every file says what it is, nothing half-done is left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Layers of each crate, lowest first. A module may import itself and modules listed before it;
/// modules in one inner list are siblings of one layer and may know each other.
/// A new edge is a change to this list, to be argued for in review.
const LAYERS: &[(&str, &[&[&str]])] = &[
    (
        "vm/src",
        &[
            &["index"],
            &["limits"],
            &["cell"],
            &["value"],
            &["bytecode"],
            &["syntax"],
            &["heap"],
            &["string", "table", "userdata", "cdata", "function", "thread"],
            &["chunk"],
            &["compile"],
            &["error", "state"],
            &["gc"],
            &["interp"],
            &["lib"],
            &["layout"],
            &["raw"],
            &["host"],
        ],
    ),
    (
        "jit/src",
        &[
            &["abort"],
            &["ir"],
            &["trace"],
            &["opt"],
            &["options"],
            &["code"],
            &["lower"],
            &["worker"],
            &["view"],
            &["record"],
            &["restore"],
            &["dump"],
            &["disasm"],
            &["lib_dump"],
            &["lib_util"],
            &["engine"],
        ],
    ),
    (
        "ffi/src",
        &[
            &["ctype"],
            &["cparse"],
            &["call"],
            &["symbols", "clib"],
            &["state"],
            &["cdata"],
            &["convert"],
            &["ops"],
            &["callback"],
            &["lib_new"],
            &["meta"],
            &["from_trace"],
            &["lib_ffi"],
        ],
    ),
    (
        "server/src",
        &[
            &["regex", "tls"],
            &["testing"],
            &["phase"],
            &["conf"],
            &["log"],
            &["mapping"],
            &["app", "memory", "cpu_time", "counters"],
            &["http1"],
            &["request"],
            &["flow"],
            &["cosocket", "shared", "subprocess", "upstream"],
            &["lua"],
            &["api"],
            &["application"],
            &["serve"],
            &["compat"],
            &["cli"],
        ],
    ),
];

/// Files that may contain `unsafe`; a trailing slash admits a folder.
const UNSAFE_FILES: &[&str] = &[
    "vm/src/cell/",
    "vm/src/value/mod.rs",
    "vm/src/heap/",
    "vm/src/string/",
    "vm/src/table/",
    "vm/src/userdata.rs",
    "vm/src/cdata.rs",
    "vm/src/function/",
    "vm/src/thread/",
    "vm/src/gc/",
    "vm/src/state/",
    "vm/src/interp/",
    "vm/src/lib/sys.rs",
    "vm/src/host/lua.rs",
    "vm/src/layout.rs",
    "vm/src/raw.rs",
    "jit/src/code/",
    "jit/src/restore.rs",
    "jit/src/view.rs",
    "jit/src/lower/helpers.rs",
    "jit/src/engine/exits.rs",
    "jit/src/worker.rs",
    "ffi/src/cdata/access.rs",
    "ffi/src/call/",
    "ffi/src/callback.rs",
    "ffi/src/clib.rs",
    "ffi/src/from_trace.rs",
    "benches/src/measure.rs",
    "src/cli/allocator.rs",
    "src/cli/interrupt.rs",
    "server/src/compat/",
    "server/src/shared/shm.rs",
    "server/src/serve/",
    "server/src/http1/tcp_info.rs",
    "server/src/regex.rs",
    "server/src/memory.rs",
    "server/src/mapping.rs",
    "server/src/counters.rs",
    "server/src/cpu_time.rs",
    "server/src/subprocess.rs",
];

/// Folders whose Rust files are checked.
const ROOTS: &[&str] =
    &["src", "vm/src", "jit/src", "ffi/src", "server/src", "lua-tests/src", "benches/src", "tests"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for e in entries.flatten() {
        let p = e.path();
        if p.is_dir() {
            rust_files(&p, out);
        } else if p.extension().is_some_and(|x| x == "rs") {
            out.push(p);
        }
    }
}

fn all_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for r in ROOTS {
        rust_files(&root().join(r), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|p| {
            let rel = p.strip_prefix(root()).expect("under the root").to_string_lossy().replace('\\', "/");
            (rel, std::fs::read_to_string(&p).expect("readable source"))
        })
        .collect()
}

/// Source without comments, string contents and the trailing test module.
fn code_only(text: &str) -> String {
    let text = text.find("#[cfg(test)]\nmod tests").map_or(text, |i| &text[..i]);
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_str = false;
        let mut prev = ' ';
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            if !in_str && c == '/' && chars.peek() == Some(&'/') {
                break;
            }
            if c == '"' && prev != '\\' && prev != '\'' {
                in_str = !in_str;
                out.push(c);
            } else if !in_str {
                out.push(c);
            }
            prev = if prev == '\\' && c == '\\' { ' ' } else { c };
        }
        out.push('\n');
    }
    out
}

/// `crate::X` names used in a piece of code, also inside `use crate::{a::.., b}` groups.
fn crate_imports(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (i, _) in code.match_indices("crate::") {
        if i > 0 && code[..i].ends_with('$') {
            continue;
        }
        let rest = &code[i + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            let mut at_start = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => at_start = true,
                    c if at_start && depth == 0 && (c.is_alphanumeric() || c == '_') => word.push(c),
                    _ if !word.is_empty() => {
                        names.push(std::mem::take(&mut word));
                        at_start = false;
                    }
                    _ => {}
                }
            }
            if !word.is_empty() {
                names.push(word);
            }
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

#[test]
fn layers_point_downward() {
    let mut wrong = Vec::new();
    for (dir, layers) in LAYERS {
        let rank: BTreeMap<&str, usize> =
            layers.iter().enumerate().flat_map(|(i, names)| names.iter().map(move |n| (*n, i))).collect();
        for (path, text) in all_files().iter().filter(|(p, _)| p.starts_with(&format!("{dir}/"))) {
            let module = path[dir.len() + 1..].split(['/', '.']).next().unwrap_or_default();
            let rest = &path[dir.len() + 1..];
            if rest == "lib.rs" || rest.ends_with("tests.rs") {
                continue; // the crate root names everybody, and so may tests
            }
            let Some(&own) = rank.get(module) else {
                wrong.push(format!("{path}: module `{module}` is in no layer list"));
                continue;
            };
            for name in crate_imports(&code_only(text)) {
                if let Some(&other) = rank.get(name.as_str())
                    && other > own
                {
                    wrong.push(format!("{path}: `{module}` imports `{name}`, which lies above it"));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packages_know_only_packages_below() {
    let allowed: &[(&str, &[&str])] = &[
        ("vm/src", &[]),
        ("ffi/src", &["moonlit_vm"]),
        ("jit/src", &["moonlit_vm", "moonlit_ffi"]),
        ("server/src", &["moonlit_vm"]),
    ];
    let ours = ["moonlit_vm", "moonlit_ffi", "moonlit_jit", "moonlit_server", "moonlit::"];
    let mut wrong = Vec::new();
    for (dir, ok) in allowed {
        for (path, text) in all_files().iter().filter(|(p, _)| p.starts_with(&format!("{dir}/"))) {
            let code = code_only(text);
            for name in ours.iter().filter(|n| !ok.contains(n)) {
                if code
                    .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                    .any(|w| w.starts_with(name))
                {
                    wrong.push(format!("{path}: names `{name}`"));
                }
            }
            if !dir.starts_with("jit") && !dir.starts_with("ffi") && code.contains("moonlit_vm::raw") {
                wrong.push(format!("{path}: uses `moonlit_vm::raw`, which is for jit and ffi only"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_only_in_listed_files() {
    let mut wrong = Vec::new();
    for (path, text) in all_files() {
        if path.starts_with("tests/")
            || UNSAFE_FILES.iter().any(|u| path == *u || u.ends_with('/') && path.starts_with(u))
        {
            continue;
        }
        let code = code_only(&text);
        for (n, line) in code.lines().enumerate() {
            let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            if words.contains(&"unsafe") {
                wrong.push(format!("{path}:{}: unsafe in a file that is not listed", n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let wrong: Vec<String> =
        all_files().into_iter().filter(|(_, t)| !t.starts_with("//!")).map(|(p, _)| p).collect();
    assert!(wrong.is_empty(), "files without a `//!` header:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_half_done_is_left() {
    let banned = [
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
    ];
    let mut wrong = Vec::new();
    for (path, text) in all_files() {
        for (n, line) in text.lines().enumerate() {
            for b in banned.iter().filter(|b| line.contains(*b)) {
                wrong.push(format!("{path}:{}: `{b}`", n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_wildcard_reexports() {
    let mut wrong = Vec::new();
    for (path, text) in all_files() {
        for (n, line) in code_only(&text).lines().enumerate() {
            let line = line.trim();
            if line.starts_with("pub use") && line.ends_with("::*;") {
                wrong.push(format!("{path}:{}", n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
