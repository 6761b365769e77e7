//! Byte streams under cosockets, and how they are made from an address.
//!
//! Knows no pools and no names: whoever dials has resolved them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::error::{Call, SockError};
use crate::tls::sessions::Session;

/// A byte stream under a cosocket.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Runs `f` on the system's socket; false when there is none.
    fn with_socket(&self, f: &mut dyn FnMut(SockRef<'_>)) -> bool {
        let _ = f;
        false
    }

    /// The error that the end of the stream means; `None` when it is an ordinary end.
    fn end_error(&self) -> Option<SockError> {
        None
    }

    /// The session of a stream that is encrypted.
    fn session(&self) -> Option<&Arc<Session>> {
        None
    }
}

impl Stream for TcpStream {
    fn with_socket(&self, f: &mut dyn FnMut(SockRef<'_>)) -> bool {
        f(self.into());
        true
    }
}

impl Stream for UnixStream {
    fn with_socket(&self, f: &mut dyn FnMut(SockRef<'_>)) -> bool {
        f(self.into());
        true
    }
}

impl Stream for tokio::io::DuplexStream {}

/// Runs `f` on the stream's socket, if it has one.
pub fn on_socket<R>(io: &dyn Stream, f: impl FnOnce(SockRef<'_>) -> R) -> Option<R> {
    let (mut f, mut result) = (Some(f), None);
    io.with_socket(&mut |socket| result = f.take().map(|f| f(socket)));
    result
}

/// The number of the stream's descriptor, for log lines; -1 when it has none.
pub fn descriptor(io: &dyn Stream) -> i32 {
    on_socket(io, |s| s.as_raw_fd()).unwrap_or(-1)
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or literal, and port.
    Host(String, u16),
    /// `unix:` path.
    Unix(PathBuf),
}

/// A connection being made.
pub type Dial = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, SockError>>>>;

/// Connects to a Unix socket.
pub fn dial_unix(path: &Path) -> Dial {
    let path = path.to_path_buf();
    Box::pin(async move {
        match UnixStream::connect(&path).await {
            Ok(s) => Ok(Box::new(s) as Box<dyn Stream>),
            Err(error) => {
                Err(SockError::Connect { call: Call::ConnectTo(format!("unix:{}", path.display())), error })
            }
        }
    })
}

/// Connects to the first of these addresses that answers, from `local` if that is set.
pub fn dial_tcp(to: Vec<SocketAddr>, local: Option<SocketAddr>) -> Dial {
    Box::pin(async move {
        let mut failed = None;
        for addr in to {
            match dial_one(addr, local).await {
                Ok(s) => return Ok(Box::new(s) as Box<dyn Stream>),
                Err(e) => failed = Some(e),
            }
        }
        Err(failed.unwrap_or(SockError::Text("no live connection")))
    })
}

async fn dial_one(addr: SocketAddr, local: Option<SocketAddr>) -> Result<TcpStream, SockError> {
    let to = || Call::ConnectTo(addr.to_string());
    let made = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = made.map_err(|error| SockError::Connect { call: to(), error })?;
    if let Some(local) = local {
        let call = || {
            // nginx shows the port only where one was asked for.
            let shown = if local.port() == 0 { local.ip().to_string() } else { local.to_string() };
            Call::Bind(shown)
        };
        socket.bind(local).map_err(|error| SockError::Connect { call: call(), error })?;
    }
    socket.connect(addr).await.map_err(|error| {
        let call = if refused_on_the_spot(&error) { to() } else { Call::Connect };
        SockError::Connect { call, error }
    })
}

/// Errors that `connect` returns itself on a TCP socket, in contrast to those that come with an answer.
fn refused_on_the_spot(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EACCES | libc::EPERM | libc::EADDRNOTAVAIL | libc::EINVAL)
    )
}
