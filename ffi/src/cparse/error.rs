//! Errors of the declaration parser.

use std::fmt;

/// Why a declaration was refused.
///
/// Shown as LuaJIT shows it: `what near 'token' at line n`, the line only from the second on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdeclError {
    /// The text without position.
    pub message: String,
    /// The token where it was noticed.
    pub near: Option<Vec<u8>>,
    /// Line, from 1.
    pub line: u32,
    /// Byte offset of that token in the source.
    pub offset: usize,
}

impl CdeclError {
    /// Is there no room for more types?
    pub fn is_overflow(&self) -> bool {
        self.message == text::TABLE_OVERFLOW
    }

    /// The whole text as bytes: a token need not be valid UTF-8.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = self.message.clone().into_bytes();
        if let Some(near) = &self.near {
            text.extend_from_slice(b" near '");
            text.extend_from_slice(near);
            text.push(b'\'');
        }
        if self.line > 1 {
            text.extend_from_slice(format!(" at line {}", self.line).as_bytes());
        }
        text
    }
}

impl fmt::Display for CdeclError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl std::error::Error for CdeclError {}

/// The fixed texts.
pub(super) mod text {
    pub const TABLE_OVERFLOW: &str = "table overflow";
    pub const INVALID_TYPE: &str = "invalid C type";
    pub const INVALID_SIZE: &str = "size of C type is unknown or too large";
    pub const BAD_STORAGE: &str = "bad storage class";
    pub const SPECIFIER_EXPECTED: &str = "declaration specifier expected";
    pub const PARAM_COUNT: &str = "wrong number of type parameters";
    pub const UNEXPECTED: &str = "unexpected symbol";
    pub const LEVELS: &str = "chunk has too many syntax levels";
    pub const BAD_VALUE: &str = "invalid value";
    pub const BAD_NUMBER: &str = "malformed number";
    pub const UNFINISHED_STRING: &str = "unfinished string";
    pub const BAD_ESCAPE: &str = "invalid escape sequence";
}
