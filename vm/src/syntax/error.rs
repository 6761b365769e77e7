//! The error of lexer, parser and compiler: one finished message.

use crate::bytecode::chunkname;

/// Why a chunk did not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Whole message: `chunk:LINE: TEXT near 'TOKEN'`.
    pub message: Vec<u8>,
    /// Line.
    pub line: u32,
    /// The chunk ended too early: more input may make it valid (interactive use asks this).
    pub at_eof: bool,
    /// The chunk is wrong whatever may follow: the error was found before its end was read.
    pub inside: bool,
    /// A jump has no place to go to, in a function of which only the beginning is known.
    pub truncated: bool,
}

impl SyntaxError {
    /// Builds the message. `near` is the text of the offending token, cut at a NUL byte.
    pub fn new(chunkname: &[u8], line: u32, text: &[u8], near: Option<&[u8]>) -> Box<SyntaxError> {
        let mut message = chunkname::shorten(chunkname);
        message.extend_from_slice(format!(":{line}: ").as_bytes());
        message.extend_from_slice(text);
        if let Some(near) = near {
            let end = memchr::memchr(0, near).unwrap_or(near.len());
            message.extend_from_slice(b" near '");
            message.extend_from_slice(&near[..end]);
            message.push(b'\'');
        }
        Box::new(SyntaxError {
            message,
            line,
            at_eof: near == Some(b"<eof>"),
            inside: false,
            truncated: false,
        })
    }
}

impl std::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.message))
    }
}

impl std::error::Error for SyntaxError {}
