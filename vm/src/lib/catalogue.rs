//! What programs find, as a document: every registered function with the implementation whose behaviour it has, and
//! what those have that is not here. The text of `COMPATIBILITY.md`.

use super::{ALL, base, coroutine, debug, package, table};
use crate::state::native::NativeRow;

/// Whose behaviour a library has.
const MODELS: &[(&str, &str)] = &[
    ("cjson", "lua-cjson 2.1 (OpenResty's), in the module `cjson`"),
    ("lfs", "LuaFileSystem 1.8, in the module `lfs`"),
    ("lfs.dir", "LuaFileSystem 1.8: what `lfs.dir` returns"),
    ("string.buffer", "LuaJIT 2.1, in the module `string.buffer`"),
    ("buffer", "LuaJIT 2.1: methods of a `string.buffer`"),
    ("file", "LuaJIT 2.1: methods of a file"),
    ("jit.profile", "LuaJIT 2.1, in the module `jit.profile`"),
    ("jit.bcsave", "LuaJIT 2.1, in the module `jit.bcsave`: what `-b` does with its words"),
    ("jit.util", "LuaJIT 2.1, in the module `jit.util`"),
    ("table (modules)", "LuaJIT 2.1 (`table.new`, `table.clear`) and OpenResty's LuaJIT, each by `require`"),
    ("thread (modules)", "OpenResty's LuaJIT, each by `require`"),
    ("_G (5.2)", "LuaJIT built with LUA52COMPAT: `moonlitd` and `resty`"),
    ("debug (5.2)", "LuaJIT built with LUA52COMPAT: `moonlitd` and `resty`"),
    ("table (5.2)", "LuaJIT built with LUA52COMPAT: `moonlitd` and `resty`"),
];

/// Modules without functions of the registry.
const MODULES: &[(&str, &str)] = &[
    ("cjson.safe", "as `cjson`, but errors are returned"),
    ("ffi", "LuaJIT's ffi (feature `ffi`)"),
    ("jit.bc", "listings of bytecode"),
    ("jit.dis_x86, jit.dis_x64", "machine code as text, in NASM's words (feature `jit`)"),
    (
        "jit.dis_arm, jit.dis_arm64, jit.dis_arm64be, jit.dis_ppc, jit.dis_mips, jit.dis_mipsel, jit.dis_mips64, jit.dis_mips64el, jit.dis_mips64r6, jit.dis_mips64r6el",
        "the same for other machines, in Capstone's words (feature `disassemblers`)",
    ),
    ("jit.dump", "bytecode, IR, snapshots and machine code of traces in LuaJIT's form (feature `jit`)"),
    ("jit.p", "reports of the profiler, with LuaJIT's options"),
    (
        "jit.opt",
        "flags and parameters of the compiler (feature `jit`); `minstitch` is about calls of library functions without a recorder, `sizemcode` about parts of code memory that go back to the system; `jit.prngstate` where the 5.2 set is",
    ),
    ("jit.v", "a line for each trace (feature `jit`)"),
    ("jit.vmdef", "names of instructions and of builtin functions"),
    ("jit.zone", "names for the parts of a program"),
];

/// What the models have and this has not.
const MISSING: &[(&str, &str)] = &[
    ("C modules", "there is no C API: `package.loadlib` and the C loaders say so"),
    ("LuaJIT's bytecode", "the format is this machine's own; LuaJIT's is refused as incompatible"),
    (
        "jit.attach, jit.dump",
        "a `texit` passes the values that the exit saved (`X` shows them), not every register; results on the stack have no \
         place in `r`",
    ),
    (
        "builtins",
        "`table.move` and a few more are Lua functions there, so that `jit.util` and `jit.bc` list them; here none is, \
         and what a builtin function or iterator keeps cannot be reached by `debug.getupvalue` (`nups` is 0)",
    ),
    (
        "goto",
        "a jump backwards out of an inner block has a `LOOP` in front, in listings too: limits reach every loop",
    ),
    (
        "`#`",
        "of a table with nils: the border is LuaJIT's for nearly all constructors; what is added or removed later, and \
         constant items among many nils, may end at another one",
    ),
    (
        "limits",
        "10,000 coroutines may resume one another, then `C stack overflow` (LuaJIT's C stack decides, and it may crash); \
         1,048,576 C types, then `table overflow` (LuaJIT 32,768)",
    ),
    (
        "moonlit",
        "of `-b`, a file that cannot be opened is reported without the error's number behind the text, and every error \
         is exit code 1",
    ),
];

fn library(out: &mut String, name: &str, rows: &[NativeRow]) {
    let model = MODELS.iter().find(|m| m.0 == name).map_or("LuaJIT 2.1", |m| m.1);
    out.push_str(&format!("\n### {name}\n\n{model}:\n"));
    let mut names: Vec<&str> = rows.iter().map(|r| r.field()).collect();
    names.sort_unstable();
    let mut width = 0;
    for (i, n) in names.iter().enumerate() {
        let word = format!("`{n}`{}", if i + 1 < names.len() { "," } else { "." });
        if i == 0 || width + word.len() + 1 > 116 {
            out.push_str(if i == 0 { "" } else { "\n" });
            width = 0;
        } else {
            out.push(' ');
            width += 1;
        }
        out.push_str(&word);
        width += word.len();
    }
    out.push('\n');
}

/// The document.
pub fn document() -> String {
    let mut out = String::from(
        "# Compatibility of the Lua machine\n\n\
         Generated from the registries of `vm/src/lib`; a test fails when it is not current (`BLESS=1` writes it). What a\n\
         function does is what its model does, to the text of its errors; where that is known to differ, it says so here.\n\n\
         ## Libraries\n",
    );
    for (name, rows) in ALL {
        library(&mut out, name, rows);
    }
    for (name, rows) in [
        ("package (globals)", package::GLOBALS),
        ("table (modules)", table::MODULES),
        ("thread (modules)", coroutine::MODULES),
        ("_G (5.2)", base::FNS52),
        ("table (5.2)", table::FNS52),
        ("debug (5.2)", debug::FNS52),
    ] {
        library(&mut out, name, rows);
    }
    for (title, rows) in [("Other modules", MODULES), ("Not there", MISSING)] {
        out.push_str(&format!("\n## {title}\n\n"));
        for (name, text) in rows {
            out.push_str(&format!("- **{name}**: {text}\n"));
        }
    }
    out
}
