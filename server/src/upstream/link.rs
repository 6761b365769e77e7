//! A connection to a server: connect, read, write; and the idle ones that wait for another request.
//!
//! Knows no request and no HTTP.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::conf::upstream::PeerAddr;
use crate::http1::clock;
use crate::http1::conn::{Transport, give_buffer, poll_append, take_buffer};

/// How often idle connections are looked at.
const SWEEP_MS: u64 = 1000;

/// Options of a connect.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Where it comes from.
    pub local: Option<SocketAddr>,
    /// The address need not be ours.
    pub transparent: bool,
    /// SO_KEEPALIVE.
    pub keepalive: bool,
    /// SO_RCVBUF, if not 0.
    pub rcvbuf: u32,
    /// SO_SNDBUF, if not 0.
    pub sndbuf: u32,
}

impl ConnectOptions {
    fn is_plain(&self) -> bool {
        self.local.is_none() && self.rcvbuf == 0 && self.sndbuf == 0
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The local address cannot be used: `bind(ADDR) failed`.
    Bind(io::Error),
    /// Anything else.
    Connect(io::Error),
}

/// Opens a connection. Takes as long as the system needs.
pub async fn connect(to: &PeerAddr, options: &ConnectOptions) -> Result<Transport, ConnectError> {
    let fail = ConnectError::Connect;
    let stream = match to {
        PeerAddr::Unix(path) => return UnixStream::connect(path).await.map(Transport::Unix).map_err(fail),
        PeerAddr::Inet(addr) if options.is_plain() => TcpStream::connect(addr).await.map_err(fail)?,
        PeerAddr::Inet(addr) => {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let socket = socket.map_err(fail)?;
            if options.rcvbuf > 0 {
                socket.set_recv_buffer_size(options.rcvbuf).map_err(fail)?;
            }
            if options.sndbuf > 0 {
                socket.set_send_buffer_size(options.sndbuf).map_err(fail)?;
            }
            if let Some(local) = options.local {
                let raw = socket2::SockRef::from(&socket);
                let _ = raw.set_reuse_address(true);
                if options.transparent {
                    raw.set_ip_transparent_v4(true).map_err(ConnectError::Bind)?;
                }
                socket.bind(local).map_err(ConnectError::Bind)?;
            }
            socket.connect(*addr).await.map_err(fail)?
        }
    };
    let _ = stream.set_nodelay(true);
    if options.keepalive {
        let _ = socket2::SockRef::from(&stream).set_keepalive(true);
    }
    Ok(Transport::Tcp(stream))
}

/// A connection with what was read from it.
pub struct Link {
    io: Transport,
    input: Vec<u8>,
    at: usize,
    /// The server has closed its side.
    pub eof: bool,
    /// Requests on it, the running one included.
    pub requests: u64,
    /// When it was made, by the monotonic clock.
    pub born_ms: u64,
    /// Bytes sent for the running request.
    pub sent: u64,
    /// It served a request before.
    pub reused: bool,
}

impl Link {
    /// A fresh connection.
    pub fn new(io: Transport) -> Link {
        Link {
            io,
            input: Vec::new(),
            at: 0,
            eof: false,
            requests: 0,
            born_ms: clock::monotonic_ms(),
            sent: 0,
            reused: false,
        }
    }

    /// What was read and not used.
    pub fn unread(&self) -> &[u8] {
        &self.input[self.at..]
    }

    /// Uses bytes of `unread`.
    pub fn consume(&mut self, n: usize) {
        self.at += n;
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        }
    }

    /// Gives the unread bytes to `f`, which tells how many it used.
    pub fn with_unread<R>(&mut self, f: impl FnOnce(&[u8]) -> (R, usize)) -> R {
        let (r, n) = f(&self.input[self.at..]);
        self.consume(n);
        r
    }

    /// Reads once, so that at most `max` bytes are unread. Ready with 0 at the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            self.input = take_buffer();
        }
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        let old = self.input.len();
        let room = max.saturating_sub(old).max(1);
        if self.input.capacity() - old < room {
            self.input.reserve(room);
        }
        // What TLS holds back goes first: the answer may depend on it.
        if let Poll::Ready(Err(e)) = self.io.poll_flush(cx) {
            return Poll::Ready(Err(e));
        }
        let r = poll_append(&mut self.io, cx, &mut self.input);
        let n = self.input.len() - old;
        match r {
            Poll::Ready(Ok(())) => {
                self.eof |= n == 0;
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes once.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let r = self.io.poll_write(cx, data);
        if let Poll::Ready(Ok(n)) = &r {
            self.sent += *n as u64;
            // What does not go out now goes out while the answer is waited for.
            if let Poll::Ready(Err(e)) = self.io.poll_flush(cx) {
                return Poll::Ready(Err(e));
            }
        }
        r
    }

    /// Closes the sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_shutdown(cx)
    }

    /// Gives the buffer back while the connection idles.
    fn rest(&mut self) {
        self.at = 0;
        give_buffer(std::mem::take(&mut self.input));
    }

    /// Whether nothing has happened on an idle connection, as far as is known without asking the system.
    fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.io.poll_read_ready(&mut cx).is_pending() {
            return true;
        }
        let mut byte = [0u8; 1];
        let mut buf = ReadBuf::new(&mut byte);
        self.io.poll_read(&mut cx, &mut buf).is_pending()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The server is told that this is the end, if it can be told at once.
        if let Transport::TlsClient(_) = &self.io {
            let _ = self.io.poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
        give_buffer(std::mem::take(&mut self.input));
    }
}

struct Idle {
    link: Link,
    addr: PeerAddr,
    tag: usize,
    due_ms: u64,
}

/// Idle connections, the one used last in front.
pub struct Pool {
    max: usize,
    list: RefCell<VecDeque<Idle>>,
    sweeping: Cell<bool>,
}

impl Pool {
    /// A pool for so many.
    pub fn new(max: usize) -> Rc<Pool> {
        Rc::new(Pool { max, list: RefCell::default(), sweeping: Cell::new(false) })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    /// A connection to this address that is still good. `tag` must match if it is given.
    pub fn take(&self, addr: &PeerAddr, tag: Option<usize>) -> Option<Link> {
        let mut list = self.list.borrow_mut();
        let mut at = 0;
        while at < list.len() {
            let fits = list[at].addr == *addr && tag.is_none_or(|t| t == list[at].tag);
            if !fits {
                at += 1;
                continue;
            }
            let mut found = list.remove(at)?;
            if found.link.is_quiet() {
                found.link.reused = true;
                found.link.sent = 0;
                return Some(found.link);
            }
        }
        None
    }

    /// Keeps a connection; the oldest one goes when there are too many.
    pub fn put(self: &Rc<Self>, mut link: Link, addr: PeerAddr, tag: usize, idle_ms: u64) {
        link.rest();
        let due_ms = if idle_ms == 0 { u64::MAX } else { clock::monotonic_ms().saturating_add(idle_ms) };
        let mut list = self.list.borrow_mut();
        list.push_front(Idle { link, addr, tag, due_ms });
        list.truncate(self.max);
        drop(list);
        if !self.sweeping.replace(true) {
            let pool = Rc::downgrade(self);
            tokio::task::spawn_local(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(SWEEP_MS)).await;
                    let Some(pool) = pool.upgrade() else { return };
                    pool.sweep();
                    if pool.is_empty() {
                        pool.sweeping.set(false);
                        return;
                    }
                }
            });
        }
    }

    /// Drops those that are overdue or closed by their server.
    pub fn sweep(&self) {
        clock::update();
        let now = clock::monotonic_ms();
        self.list.borrow_mut().retain_mut(|idle| idle.due_ms > now && idle.link.is_quiet());
    }

    /// Drops all.
    pub fn clear(&self) {
        self.list.borrow_mut().clear();
    }
}
