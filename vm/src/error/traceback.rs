//! The layout of a traceback. Knows neither frames nor the VM: a caller hands it one [`Line`] per level.

/// The source name as messages show it.
pub use crate::bytecode::chunkname::shorten as short_source;

/// One level of a traceback.
#[derive(Default, Debug, Clone)]
pub struct Line {
    /// Short source name, `[C]` for natives, `[builtin#N]` for library functions without a name.
    pub source: Vec<u8>,
    /// Current line, 0 when unknown.
    pub line: u32,
    /// Name of the function as its caller sees it.
    pub name: Option<Vec<u8>>,
    /// Main chunk of a file.
    pub main: bool,
    /// Address of a native function without a name.
    pub address: Option<u64>,
    /// Line of the definition of a Lua function without a name.
    pub defined: i32,
}

/// Levels shown at the top of a long traceback.
pub const LEVELS_TOP: usize = 12;
/// Levels shown at its bottom.
pub const LEVELS_BOTTOM: usize = 10;

/// Renders a traceback: an optional message, the heading, the levels from `level` on; a long one is cut in the middle.
pub fn render(message: Option<&[u8]>, lines: &[Line], level: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(m) = message {
        out.extend_from_slice(m);
        out.push(b'\n');
    }
    out.extend_from_slice(b"stack traceback:");
    // The levels that are skipped at the top count as shown.
    let top = LEVELS_TOP.saturating_sub(level);
    let cut = lines.len() > top + LEVELS_BOTTOM;
    for (i, l) in lines.iter().enumerate() {
        if cut && i >= top && i < lines.len() - LEVELS_BOTTOM {
            if i == top {
                out.extend_from_slice(b"\n\t...");
            }
            continue;
        }
        out.extend_from_slice(b"\n\t");
        out.extend_from_slice(&l.source);
        out.push(b':');
        if l.line > 0 {
            out.extend_from_slice(l.line.to_string().as_bytes());
            out.push(b':');
        }
        if let Some(n) = &l.name {
            out.extend_from_slice(b" in function '");
            out.extend_from_slice(n);
            out.push(b'\'');
        } else if l.main {
            out.extend_from_slice(b" in main chunk");
        } else if let Some(a) = l.address {
            out.extend_from_slice(format!(" at {a:#x}").as_bytes());
        } else {
            out.extend_from_slice(b" in function <");
            out.extend_from_slice(&l.source);
            out.extend_from_slice(format!(":{}>", l.defined).as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_source_forms() {
        assert_eq!(short_source(b"=stdin"), b"stdin");
        assert_eq!(short_source(b"@a.lua"), b"a.lua");
        assert_eq!(short_source(b"x = 1"), b"[string \"x = 1\"]");
        assert_eq!(short_source(b"x = 1\ny = 2"), b"[string \"x = 1...\"]");
        assert_eq!(short_source(&[b'a'; 80]).len(), 60 - 1);
    }

    #[test]
    fn render_cuts_the_middle() {
        let lines = vec![Line { source: b"f".to_vec(), line: 1, main: true, ..Line::default() }; 30];
        let text = render(None, &lines, 0);
        assert_eq!(text.iter().filter(|&&c| c == b'\n').count(), 12 + 1 + 10);
    }
}
