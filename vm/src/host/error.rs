//! Errors an embedder sees.

use std::fmt;
use std::sync::Arc;

/// What went wrong.
#[derive(Debug, Clone)]
pub enum Error {
    /// The chunk does not compile; the message is LuaJIT's, with chunk name and line.
    SyntaxError {
        /// Message.
        message: String,
        /// The source ended too early: more input could complete it.
        incomplete_input: bool,
    },
    /// The program raised an error.
    RuntimeError {
        /// The error value as text.
        message: String,
        /// Traceback taken where the error was raised; empty when none could be taken.
        traceback: String,
    },
    /// "not enough memory".
    MemoryError(String),
    /// A Lua value could not become the Rust type.
    FromLuaConversionError {
        /// Lua type.
        from: &'static str,
        /// Rust type.
        to: String,
        /// More, when there is more to say.
        message: Option<String>,
    },
    /// A Rust callback failed with an error of its own.
    ExternalError(Arc<dyn std::error::Error + Send + Sync>),
    /// A handle of one VM was given to another.
    MismatchedVm,
    /// A coroutine that cannot be resumed was.
    CoroutineUnresumable,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A runtime error with a message, for callbacks.
    pub fn runtime(message: impl Into<String>) -> Error {
        Error::RuntimeError { message: message.into(), traceback: String::new() }
    }

    /// Wraps an error of the host.
    pub fn external(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::ExternalError(e.into().into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::SyntaxError { message, .. } => f.write_str(message),
            Error::RuntimeError { message, traceback } if traceback.is_empty() => f.write_str(message),
            Error::RuntimeError { message, traceback } => write!(f, "{message}\n{traceback}"),
            Error::MemoryError(m) => f.write_str(m),
            Error::FromLuaConversionError { from, to, message } => {
                write!(f, "error converting Lua {from} to {to}")?;
                message.as_ref().map_or(Ok(()), |m| write!(f, " ({m})"))
            }
            Error::ExternalError(e) => e.fmt(f),
            Error::MismatchedVm => f.write_str("value belongs to another Lua VM"),
            Error::CoroutineUnresumable => f.write_str("cannot resume dead coroutine"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::ExternalError(e) => Some(&**e),
            _ => None,
        }
    }
}
