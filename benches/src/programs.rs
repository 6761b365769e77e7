//! The programs: `benches/lua/*.lua`, each with a header that says what it asks.
//!
//! ```lua
//! -- question: float math in a hot loop
//! -- expect: -0.169075164
//! -- needs: ffi            (optional; leaves out engines without it)
//! ```

use std::path::PathBuf;

use crate::measure::Engine;

/// One program.
pub struct Program {
    /// File name without its ending.
    pub name: String,
    /// What it measures.
    pub question: String,
    /// What it must print.
    pub expected: String,
    /// Needs the ffi.
    pub ffi: bool,
    /// The file.
    pub path: PathBuf,
}

impl Program {
    /// Can this engine run it?
    pub fn runs_on(&self, e: &Engine) -> bool {
        !self.ffi || e.has_ffi
    }
}

/// All programs, sorted by name.
pub fn all() -> Result<Vec<Program>, String> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("lua");
    let mut out = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|x| x != "lua") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let field = |key: &str| {
            let prefix = format!("-- {key}: ");
            text.lines().find_map(|l| l.strip_prefix(&prefix)).map(str::to_string)
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let question = field("question").ok_or(format!("{name}: no `-- question:` line"))?;
        let expected = field("expect").ok_or(format!("{name}: no `-- expect:` line"))?;
        let ffi = field("needs").is_some_and(|n| n == "ffi");
        out.push(Program { name, question, expected, ffi, path });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}
