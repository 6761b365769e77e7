//! A client connection: the socket, its input and output buffers, its deadline.
//!
//! Shared by the connection's task and the request in it through short borrows;
//! no borrow lives across a wait. While the connection is idle it has no buffer:
//! it waits for readiness and takes buffers from the worker's stock when bytes
//! have come. Knows nothing of requests.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::deadline::Deadline;
use super::proxy_protocol::ProxyProtocol;
use super::secure::{Begun, Secured};
use crate::tls::client::Encrypted;

/// Size of a fresh input buffer.
const INPUT_BYTES: usize = 4096;
/// Buffers above this capacity are not kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// Buffers a worker keeps.
const KEPT_MAX: usize = 64;
/// Most bytes read ahead while a client is watched.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static STOCK: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer from the worker's stock.
pub fn take_buffer() -> Vec<u8> {
    STOCK.with_borrow_mut(|s| s.pop()).unwrap_or_else(|| Vec::with_capacity(INPUT_BYTES))
}

/// Gives a buffer back.
pub fn give_buffer(mut b: Vec<u8>) {
    if b.capacity() >= INPUT_BYTES && b.capacity() <= KEPT_BYTES_MAX {
        b.clear();
        STOCK.with_borrow_mut(|s| {
            if s.len() < KEPT_MAX {
                s.push(b);
            }
        });
    }
}

/// Any other byte stream: in-memory pipes.
pub trait OtherStream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> OtherStream for T {}

/// The stream under a connection.
pub enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over one of these.
    Tls(Box<TlsStream<Begun>>),
    /// TLS to a server.
    TlsClient(Box<Encrypted<Begun>>),
    /// Something else.
    Other(Box<dyn OtherStream>),
}

macro_rules! each {
    ($me:expr, $s:ident => $e:expr) => {
        match $me {
            Transport::Tcp($s) => $e,
            Transport::Unix($s) => $e,
            Transport::Tls($s) => $e,
            Transport::TlsClient($s) => $e,
            Transport::Other($s) => $e,
        }
    };
}

impl Transport {
    /// Ready when there is something to read, or the end.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(s) => s.poll_read_ready(cx),
            Transport::Unix(s) => s.poll_read_ready(cx),
            Transport::Tls(_) | Transport::TlsClient(_) | Transport::Other(_) => Poll::Ready(Ok(())),
        }
    }

    /// Sends what the stream itself holds back.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) => Poll::Ready(Ok(())),
            Transport::Tls(s) => Pin::new(s).poll_flush(cx),
            Transport::TlsClient(s) => Pin::new(s).poll_flush(cx),
            Transport::Other(s) => Pin::new(s).poll_flush(cx),
        }
    }

    /// Reads once.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }

    /// Writes once.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, data))
    }

    /// Closes the sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }

    fn socket(&self) -> Option<socket2::SockRef<'_>> {
        match self {
            Transport::Tcp(s) => Some(s.into()),
            Transport::Unix(s) => Some(s.into()),
            Transport::Tls(s) => s.get_ref().0.io.socket(),
            Transport::TlsClient(s) => s.io.get_ref().0.io.socket(),
            Transport::Other(_) => None,
        }
    }
}

/// Holds output back so that it does not go faster than a rate.
struct Throttle {
    /// Bytes per second.
    rate: u64,
    /// Bytes that are free.
    after: u64,
    start_ms: u64,
    sent: u64,
    sleep: Deadline,
}

impl Throttle {
    /// Bytes that may go now; with 0 the sleep has been set.
    fn allowance(&mut self) -> u64 {
        let elapsed_ms = super::clock::monotonic_ms() - self.start_ms;
        let total = self.rate.saturating_mul(elapsed_ms / 1000 + 1).saturating_add(self.after);
        let left = total.saturating_sub(self.sent);
        if left == 0 {
            let short = self.sent - total + 1;
            let wait_ms = (1000 - elapsed_ms % 1000) + short.saturating_sub(1) * 1000 / self.rate.max(1);
            self.sleep.arm(wait_ms);
        }
        left
    }
}

/// Reads once, into what the buffer has room for behind its bytes.
pub fn poll_append(io: &mut Transport, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<()>> {
    fn read<R: AsyncRead + Unpin>(
        io: &mut R,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        // The future holds nothing between two polls: dropped while it waits, it loses nothing.
        let mut reading = std::pin::pin!(io.read_buf(buf));
        reading.as_mut().poll(cx).map_ok(|_| ())
    }
    each!(io, s => read(s, cx, buf))
}

#[derive(Default)]
struct Input {
    buf: Vec<u8>,
    at: usize,
    eof: bool,
}

#[derive(Default)]
struct Output {
    buf: Vec<u8>,
    at: usize,
    broken: bool,
    waiters: Vec<Waker>,
}

/// A client connection.
pub struct Conn {
    io: RefCell<Transport>,
    input: RefCell<Input>,
    output: RefCell<Output>,
    deadline: RefCell<Deadline>,
    throttle: RefCell<Option<Box<Throttle>>>,
    /// The client's address; `None` on Unix sockets.
    pub peer: Option<SocketAddr>,
    /// The address it came to; `None` on Unix sockets.
    pub local: Option<SocketAddr>,
    /// Number of the connection in this process group, for `$connection` and logs.
    pub serial: u64,
    /// What a proxy in front said of it, where the PROXY protocol is spoken.
    pub proxied: OnceCell<Box<ProxyProtocol>>,
    /// What a handshake came to, where TLS is spoken.
    pub secured: OnceCell<Rc<Secured>>,
    /// When it was accepted, by the monotonic clock.
    pub accepted_ms: u64,
    /// Requests so far.
    pub requests: Cell<u64>,
    /// Bytes sent so far.
    pub bytes_sent: Cell<u64>,
    /// The request was there before the response to the last one was out.
    pub pipelined: Cell<bool>,
}

impl Conn {
    /// A connection just accepted.
    pub fn new(io: Transport, peer: Option<SocketAddr>, local: Option<SocketAddr>, serial: u64) -> Conn {
        Conn {
            io: RefCell::new(io),
            input: RefCell::default(),
            output: RefCell::default(),
            deadline: RefCell::new(Deadline::new()),
            throttle: RefCell::new(None),
            peer,
            local,
            serial,
            proxied: OnceCell::new(),
            secured: OnceCell::new(),
            accepted_ms: super::clock::monotonic_ms(),
            requests: Cell::new(0),
            bytes_sent: Cell::new(0),
            pipelined: Cell::new(false),
        }
    }

    /// From now on output goes at most at `rate` bytes per second (0: as fast as it can), after `after` bytes
    /// that are free.
    pub fn throttle(&self, rate: u64, after: u64) {
        *self.throttle.borrow_mut() = (rate > 0).then(|| {
            let start_ms = super::clock::monotonic_ms();
            Box::new(Throttle { rate, after, start_ms, sent: 0, sleep: Deadline::new() })
        });
    }

    /// Sets the deadline that `poll_deadline` tells about.
    pub fn arm(&self, ms: u64) {
        self.deadline.borrow_mut().arm(ms);
    }

    /// No deadline for now.
    pub fn disarm(&self) {
        self.deadline.borrow_mut().disarm();
    }

    /// Whether the deadline has passed.
    pub fn poll_deadline(&self, cx: &mut Context<'_>) -> bool {
        self.deadline.borrow_mut().poll(cx)
    }

    /// Closing will reset the connection: nothing of it stays with the system.
    pub fn reset_on_close(&self) {
        // A socket that cannot be told so is closed as any other.
        let _ = self.with_socket(|socket| socket.set_linger(Some(std::time::Duration::ZERO)));
    }

    /// Runs `f` on the system's socket, if there is one.
    pub fn with_socket<R>(&self, f: impl FnOnce(socket2::SockRef<'_>) -> R) -> Option<R> {
        self.io.borrow().socket().map(f)
    }

    /// Ready when there is something to read (or the end). Takes no buffer while it waits.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.borrow().poll_read_ready(cx)
    }

    /// Reads once, appending to the input. Ready with the number of bytes; 0 is the end.
    pub fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        if input.buf.capacity() == 0 {
            input.buf = take_buffer();
        }
        if input.at > 0 && input.at == input.buf.len() {
            input.buf.clear();
            input.at = 0;
        }
        let old = input.buf.len();
        if input.buf.capacity() - old < INPUT_BYTES / 4 {
            if input.at >= input.buf.len() / 2 {
                input.buf.drain(..input.at);
                input.at = 0;
            } else {
                let more = input.buf.capacity().clamp(INPUT_BYTES, 64 * 1024);
                input.buf.reserve(more);
            }
        }
        let old = input.buf.len();
        let r = poll_append(&mut self.io.borrow_mut(), cx, &mut input.buf);
        let n = input.buf.len() - old;
        match r {
            Poll::Ready(Ok(())) => {
                input.eof |= n == 0;
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when the client has closed its side and nothing of what it sent is left. Reads ahead to
    /// find out; a client that has sent too much ahead is not watched any more.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.at_eof() {
                return if self.input_len() == 0 { Poll::Ready(()) } else { Poll::Pending };
            }
            if self.input_len() >= AHEAD_BYTES_MAX {
                return Poll::Pending;
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Runs `f` on the unread input; it returns its result and how many bytes it took.
    pub fn with_input<R>(&self, f: impl FnOnce(&[u8]) -> (R, usize)) -> R {
        let mut input = self.input.borrow_mut();
        let (r, n) = f(&input.buf[input.at..]);
        input.at += n;
        r
    }

    /// Number of bytes read from the socket and not yet used.
    pub fn input_len(&self) -> usize {
        let input = self.input.borrow();
        input.buf.len() - input.at
    }

    /// Whether the client has closed its side.
    pub fn at_eof(&self) -> bool {
        self.input.borrow().eof
    }

    /// Gives the buffers back when they are empty. Called before the connection idles.
    pub fn release_buffers(&self) {
        let mut input = self.input.borrow_mut();
        if input.at == input.buf.len() && input.buf.capacity() > 0 {
            input.at = 0;
            give_buffer(std::mem::take(&mut input.buf));
        }
        let mut output = self.output.borrow_mut();
        if output.at == output.buf.len() && output.buf.capacity() > 0 {
            output.at = 0;
            give_buffer(std::mem::take(&mut output.buf));
        }
    }

    /// Appends bytes to the output by running `f` on its buffer.
    pub fn write_with<R>(&self, f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut out = self.output.borrow_mut();
        if out.buf.capacity() == 0 {
            out.buf = take_buffer();
        }
        if out.broken {
            // Nobody reads it any more; keep no backlog.
            out.buf.clear();
            out.at = 0;
        }
        f(&mut out.buf)
    }

    /// Bytes waiting to be sent.
    pub fn output_len(&self) -> usize {
        let out = self.output.borrow();
        out.buf.len() - out.at
    }

    /// Whether a write has failed.
    pub fn is_broken(&self) -> bool {
        self.output.borrow().broken
    }

    /// Marks the connection as unusable.
    pub fn break_off(&self) {
        let mut out = self.output.borrow_mut();
        out.broken = true;
        out.buf.clear();
        out.at = 0;
        out.waiters.drain(..).for_each(Waker::wake);
    }

    /// Sends what waits. Ready when nothing is left or the connection is broken.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.output.borrow_mut();
        let out = &mut *out;
        if out.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut io = self.io.borrow_mut();
        let mut throttle = self.throttle.borrow_mut();
        while out.at < out.buf.len() {
            let mut end = out.buf.len();
            if let Some(t) = &mut *throttle {
                let allowed = t.allowance();
                if allowed == 0 {
                    // The first poll after setting it registers the waker.
                    if t.sleep.poll(cx) {
                        continue;
                    }
                    return Poll::Pending;
                }
                end = end.min(out.at.saturating_add(usize::try_from(allowed).unwrap_or(usize::MAX)));
            }
            match io.poll_write(cx, &out.buf[out.at..end]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    out.at += n;
                    if let Some(t) = &mut *throttle {
                        t.sent += n as u64;
                    }
                    self.bytes_sent.set(self.bytes_sent.get() + n as u64);
                }
                Poll::Ready(r) => {
                    out.broken = true;
                    out.buf.clear();
                    out.at = 0;
                    out.waiters.drain(..).for_each(Waker::wake);
                    return Poll::Ready(Err(r.err().unwrap_or(io::ErrorKind::WriteZero.into())));
                }
                Poll::Pending => {
                    if out.at > KEPT_BYTES_MAX {
                        out.buf.drain(..out.at);
                        out.at = 0;
                    }
                    return Poll::Pending;
                }
            }
        }
        out.buf.clear();
        out.at = 0;
        if out.buf.capacity() > KEPT_BYTES_MAX {
            out.buf = Vec::new();
        }
        out.waiters.drain(..).for_each(Waker::wake);
        io.poll_flush(cx)
    }

    /// Takes the stream away for a handshake, with the bytes of it that have been read.
    pub fn take_stream(&self) -> Begun {
        let mut input = self.input.borrow_mut();
        let input = &mut *input;
        let first = input.buf.split_off(input.at);
        input.buf.clear();
        input.at = 0;
        let nothing = Transport::Other(Box::new(tokio::io::empty()));
        Begun::new(first, self.io.replace(nothing))
    }

    /// Puts the stream of a handshake in its place, and what that came to.
    pub fn secure(&self, io: Box<TlsStream<Begun>>, secured: Rc<Secured>) {
        *self.io.borrow_mut() = Transport::Tls(io);
        // There is one handshake.
        let _ = self.secured.set(secured);
    }

    /// The stream.
    pub(super) fn transport(&self) -> std::cell::Ref<'_, Transport> {
        self.io.borrow()
    }

    /// Bytes that the rate lets go now; `None` when the task is woken as soon as it does.
    pub(super) fn poll_allowance(&self, cx: &mut Context<'_>) -> Option<u64> {
        let mut throttle = self.throttle.borrow_mut();
        let Some(t) = &mut *throttle else { return Some(u64::MAX) };
        loop {
            match t.allowance() {
                0 if t.sleep.poll(cx) => {}
                0 => return None,
                allowed => return Some(allowed),
            }
        }
    }

    /// So many bytes have gone out past the output.
    pub(super) fn count_sent(&self, n: u64) {
        if let Some(t) = &mut *self.throttle.borrow_mut() {
            t.sent += n;
        }
        self.bytes_sent.set(self.bytes_sent.get() + n);
    }

    /// Ready when nothing waits to be sent any more; somebody else does the sending.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.output.borrow_mut();
        if out.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if out.at == out.buf.len() {
            return Poll::Ready(Ok(()));
        }
        if !out.waiters.iter().any(|w| w.will_wake(cx.waker())) {
            out.waiters.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Closes the sending side.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.borrow_mut().poll_shutdown(cx)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // The other side is told that this is the end, if it can be told at once.
        if let Transport::Tls(_) = self.io.get_mut() {
            let _ = self.io.get_mut().poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
        self.release_buffers();
    }
}

/// The connection's bytes as a stream, for whoever takes the socket over.
pub struct Raw(pub std::rc::Rc<Conn>);

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.input_len() == 0 {
            match self.0.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.0.with_input(|b| {
            let n = b.len().min(out.remaining());
            out.put_slice(&b[..n]);
            ((), n)
        });
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.output_len() > 0 {
            match self.0.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let r = self.0.io.borrow_mut().poll_write(cx, data);
        if let Poll::Ready(Ok(n)) = &r {
            self.0.bytes_sent.set(self.0.bytes_sent.get() + *n as u64);
        }
        r
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn bytes_pass_through_and_idle_buffers_go_back() {
        crate::testing::run(async {
            let (a, mut b) = tokio::io::duplex(64);
            let c = Conn::new(Transport::Other(Box::new(a)), None, None, 1);
            b.write_all(b"hello").await.unwrap();
            assert_eq!(poll_fn(|cx| c.poll_fill(cx)).await.unwrap(), 5);
            assert_eq!(c.with_input(|b| (b.to_vec(), 3)), b"hello");
            assert_eq!(c.with_input(|b| (b.to_vec(), 2)), b"lo");
            c.write_with(|o| o.extend_from_slice(&[b'x'; 100]));
            let mut got = vec![0u8; 100];
            let (w, r) = tokio::join!(poll_fn(|cx| c.poll_flush(cx)), b.read_exact(&mut got));
            w.unwrap();
            r.unwrap();
            assert_eq!((c.output_len(), c.bytes_sent.get()), (0, 100));
            c.release_buffers();
            assert_eq!(c.input.borrow().buf.capacity() + c.output.borrow().buf.capacity(), 0);
            drop(b);
            assert_eq!(poll_fn(|cx| c.poll_fill(cx)).await.unwrap(), 0);
            assert!(c.at_eof());
        });
    }
}
