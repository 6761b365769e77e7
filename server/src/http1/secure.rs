//! A client connection that speaks TLS: the stream a handshake goes over, and what it came to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conn::Transport;
use crate::tls::errors;
use crate::tls::server::Negotiated;

/// A stream some bytes of which have been read already.
pub struct Begun {
    first: Vec<u8>,
    at: usize,
    pub(super) io: Transport,
}

impl Begun {
    /// `first` comes before what `io` has.
    pub fn new(first: Vec<u8>, io: Transport) -> Begun {
        Begun { first, at: 0, io }
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.at == me.first.len() {
            return me.io.poll_read(cx, buf);
        }
        let n = (me.first.len() - me.at).min(buf.remaining());
        buf.put_slice(&me.first[me.at..me.at + n]);
        me.at += n;
        if me.at == me.first.len() {
            (me.first, me.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets hold nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_shutdown(cx)
    }
}

/// What a handshake came to.
pub struct Secured {
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// The name that the client wanted, in lower case, and the index of the server that has it; `None` without such a one.
    pub server: Option<(Vec<u8>, usize)>,
}

/// nginx's text for a handshake that failed.
pub fn shake_failed(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => "peer closed connection in SSL handshake".to_owned(),
        _ => match e.raw_os_error() {
            Some(number) => {
                let shown = e.to_string();
                let reason = shown.split(" (os error").next().unwrap_or_default();
                format!("SSL_do_handshake() failed ({number}: {reason})")
            }
            None => format!("SSL_do_handshake() failed (SSL: {})", errors::text(e)),
        },
    }
}
