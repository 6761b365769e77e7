//! What can be wrong with a configuration, and nginx's words for it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The file name of directives that `-g` gives.
pub const COMMAND_LINE: &str = "command line";

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was opened.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: u32,
}

/// A configuration that cannot be used.
///
/// `Display` gives nginx's line without the leading `[emerg]`; `hint` is shown on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfError {
    /// What is wrong.
    pub message: String,
    /// Where, if it is anywhere.
    pub place: Option<Place>,
    /// What might have been meant.
    pub hint: Option<String>,
    /// Whether the text was read to its end without a syntax error ("syntax is ok" is still said).
    pub syntax_ok: bool,
}

impl ConfError {
    /// An error at a place.
    pub fn at(place: &Place, message: impl Into<String>) -> ConfError {
        ConfError { message: message.into(), place: Some(place.clone()), hint: None, syntax_ok: false }
    }

    /// An error of the configuration as a whole, found after all of it was read.
    pub fn whole(message: impl Into<String>) -> ConfError {
        ConfError { message: message.into(), place: None, hint: None, syntax_ok: false }
    }

    /// The same error with a hint.
    pub fn with_hint(mut self, hint: Option<String>) -> ConfError {
        self.hint = hint;
        self
    }
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.place {
            Some(place) if place.file.as_os_str() == COMMAND_LINE => write!(f, " in {COMMAND_LINE}"),
            Some(place) => write!(f, " in {}:{}", place.file.display(), place.line),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfError {}

/// Why a directive's setter refuses it; the walker adds name, file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fail {
    /// A message that the place is appended to.
    Message(String),
    /// `"NAME" directive WORDS`.
    Directive(String),
    /// A finished error from inside a block.
    Inner(Box<ConfError>),
}

impl Fail {
    /// `"NAME" directive is duplicate`.
    pub fn duplicate() -> Fail {
        Fail::Directive("is duplicate".to_owned())
    }

    /// `"NAME" directive invalid value`.
    pub fn invalid_value() -> Fail {
        Fail::Directive("invalid value".to_owned())
    }

    /// `invalid parameter "ARG"`.
    pub fn parameter(arg: &[u8]) -> Fail {
        Fail::Message(format!("invalid parameter \"{}\"", String::from_utf8_lossy(arg)))
    }
}

impl From<String> for Fail {
    fn from(message: String) -> Fail {
        Fail::Message(message)
    }
}

impl From<ConfError> for Fail {
    fn from(inner: ConfError) -> Fail {
        Fail::Inner(Box::new(inner))
    }
}

/// The system's words for an error, as nginx shows them: `(2: No such file or directory)`.
pub fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => {
            let words = text.split(" (os error").next().unwrap_or(&text);
            format!("({code}: {words})")
        }
        None => format!("({text})"),
    }
}
