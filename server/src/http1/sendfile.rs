//! Parts of files on their way to a client without coming through memory.
//!
//! Only for connections whose bytes are the socket's; others say so, and their files are read.

use std::fs::File;
use std::io;
use std::task::{Context, Poll};

use nix::sys::sendfile::sendfile64;
use tokio::io::Interest;

use super::conn::{Conn, Transport};

impl Transport {
    /// Whether the kernel can send files on it.
    pub fn takes_files(&self) -> bool {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) => true,
            Transport::Tls(_) | Transport::TlsClient(_) | Transport::Other(_) => false,
        }
    }

    /// Sends at most `max` bytes of a file from `at` on; ready with their number, 0 where the file has ended.
    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &File,
        at: u64,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        macro_rules! send {
            ($s:expr) => {
                loop {
                    std::task::ready!($s.poll_write_ready(cx))?;
                    let sent = $s.try_io(Interest::WRITABLE, || {
                        let mut from = i64::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
                        Ok(sendfile64($s, file, Some(&mut from), max)?)
                    });
                    match sent {
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        sent => break Poll::Ready(sent),
                    }
                }
            };
        }
        match self {
            Transport::Tcp(s) => send!(s),
            Transport::Unix(s) => send!(s),
            Transport::Tls(_) | Transport::TlsClient(_) | Transport::Other(_) => {
                Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
            }
        }
    }
}

impl Conn {
    /// Whether the kernel can send files to the client.
    pub fn takes_files(&self) -> bool {
        self.transport().takes_files()
    }

    /// Sends at most `max` bytes of a file from `at` on, as far as the rate allows. Nothing else may wait to be
    /// sent. Ready with the number of bytes; 0 where the file has ended.
    pub fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &File,
        at: u64,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if self.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let Some(allowed) = self.poll_allowance(cx) else { return Poll::Pending };
        let max = max.min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let sent = std::task::ready!(self.transport().poll_send_file(cx, file, at, max));
        match &sent {
            Ok(n) => self.count_sent(*n as u64),
            Err(_) => self.break_off(),
        }
        Poll::Ready(sent)
    }
}
