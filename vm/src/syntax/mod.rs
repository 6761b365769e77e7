//! Source text to syntax tree. Bytes in, plain data out: knows no heap, no bytecode.

pub mod ast;
pub mod error;
pub mod hash;
pub mod lexer;
pub mod number;
pub mod parser;
pub mod token;

/// What the language accepts beyond plain Lua 5.1 with `goto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxOptions {
    /// Lua 5.2 flavour: `goto` is reserved, `break` may stand anywhere, empty statements, no
    /// ambiguity error for a call on the next line.
    pub compat52: bool,
    /// The 2026 extensions: bit operators, `?.`, `??`, `?:`, compound assignment, `continue`,
    /// `const`, short functions, digit separators.
    pub extensions: bool,
}

impl Default for SyntaxOptions {
    fn default() -> Self {
        SyntaxOptions { compat52: false, extensions: true }
    }
}

/// Skips a UTF-8 byte order mark and a first line that starts with `#`. The newline that ends that
/// line is kept, so that line numbers stay right. The lexer does this to every chunk.
pub fn skip_file_prelude(source: &[u8]) -> &[u8] {
    let body = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    if body.first() == Some(&b'#') {
        let end = body.iter().position(|&c| c == b'\n' || c == b'\r').unwrap_or(body.len());
        &body[end..]
    } else {
        body
    }
}
