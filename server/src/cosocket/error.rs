//! Why a socket operation failed, in the words that scripts compare with.
//!
//! Knows no sockets and no logs.

use std::io;

/// Why an operation failed.
#[derive(Debug)]
pub enum SockError {
    /// The time set for the operation is over.
    Timeout,
    /// The time is over before a place in the pool was free.
    QueueTimeout,
    /// The peer closed the connection.
    Closed,
    /// There was no connection to begin with, or that side of it is closed.
    NotConnected,
    /// Another operation of that kind is under way: `connecting`, `reading`, `writing`.
    Busy(&'static str),
    /// Something that scripts know by its text.
    Text(&'static str),
    /// The name has no address.
    Resolve(String),
    /// A connection could not be made.
    Connect {
        /// The call that failed.
        call: Call,
        /// The system's error.
        error: io::Error,
    },
    /// The system's error.
    Io(io::Error),
}

/// The call that failed, as nginx's log line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `connect()`, answered later.
    Connect,
    /// `connect() to ADDRESS`, refused on the spot.
    ConnectTo(String),
    /// `bind(ADDRESS)`.
    Bind(String),
}

impl SockError {
    /// The error string that scripts see.
    pub fn text(&self) -> String {
        match self {
            SockError::Timeout | SockError::QueueTimeout => "timeout".into(),
            SockError::Closed | SockError::NotConnected => "closed".into(),
            SockError::Busy(what) => format!("socket busy {what}"),
            SockError::Text(t) => (*t).into(),
            SockError::Resolve(t) => t.clone(),
            SockError::Connect { error, .. } | SockError::Io(error) => io_text(error),
        }
    }
}

/// Whether a failed connect is something that happens on any network; others are grave.
pub fn is_usual(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EAGAIN
                | libc::ECONNRESET
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ETIMEDOUT
        )
    )
}

/// The system's text for an error, in lower case and without its number.
pub fn io_text(e: &io::Error) -> String {
    words(e).to_ascii_lowercase()
}

/// `111: Connection refused`, as log lines show it.
pub fn io_detail(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(n) => format!("{n}: {}", words(e)),
        None => words(e),
    }
}

fn words(e: &io::Error) -> String {
    let mut text = e.to_string();
    if let Some(end) = text.find(" (os error") {
        text.truncate(end);
    }
    text
}

/// A failed read, with what had arrived.
#[derive(Debug)]
pub struct ReadError {
    /// Why.
    pub error: SockError,
    /// The bytes that were there.
    pub partial: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_lose_number_and_capitals() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(io_detail(&refused), "111: Connection refused");
        let failed = SockError::Connect { call: Call::Connect, error: refused };
        assert_eq!(failed.text(), "connection refused");
    }
}
