//! The stream cosocket: connect, send, receive in every form, keepalive.
//!
//! `Socket` is a cheap handle. Its operations are futures that own a handle and
//! move freely: poll one on the spot, and if it is not ready give it to whoever
//! waits. Error texts are what OpenResty's scripts compare with. Knows no Lua.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

use super::buffer::{Buffer, Until, UntilStep};
use super::pool::{Grant, Pool, Pools, WaitPlace, is_quiet};
use super::resolver;

/// Bytes asked for in one read.
const READ_BYTES: usize = 4096;
/// Largest read asked for at once when the caller said how much it wants.
const READ_BYTES_MAX: usize = 256 * 1024;

/// A byte stream under a cosocket.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// The system's socket, for options.
    fn socket(&self) -> Option<socket2::SockRef<'_>> {
        None
    }
}

impl Stream for TcpStream {
    fn socket(&self) -> Option<socket2::SockRef<'_>> {
        Some(self.into())
    }
}

impl Stream for UnixStream {
    fn socket(&self) -> Option<socket2::SockRef<'_>> {
        Some(self.into())
    }
}

impl Stream for tokio::io::DuplexStream {}

/// Why an operation failed.
#[derive(Debug)]
pub enum SockError {
    /// The time set for the operation is over.
    Timeout,
    /// There is no connection, or the peer closed it.
    Closed,
    /// Another operation of that kind is under way.
    Busy(&'static str),
    /// Something that scripts know by its text.
    Text(&'static str),
    /// The name has no address.
    Resolve(String),
    /// The system's error.
    Io(io::Error),
}

impl SockError {
    /// The error string that scripts see.
    pub fn text(&self) -> String {
        match self {
            SockError::Timeout => "timeout".into(),
            SockError::Closed => "closed".into(),
            SockError::Busy(what) => format!("socket busy {what}"),
            SockError::Text(t) => (*t).into(),
            SockError::Resolve(t) => t.clone(),
            SockError::Io(e) => io_text(e),
        }
    }
}

/// The system's text for an error, in lower case and without its number.
pub fn io_text(e: &io::Error) -> String {
    let text = e.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_ascii_lowercase()
}

/// A failed read, with what had arrived.
#[derive(Debug)]
pub struct ReadError {
    /// Why.
    pub error: SockError,
    /// The bytes that were there.
    pub partial: Vec<u8>,
}

/// What `receive` is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `*l`: up to a line feed, which is dropped like every carriage return.
    Line,
    /// `*a`: until the peer closes.
    All,
    /// That many bytes.
    Bytes(usize),
    /// `receiveany`: whatever comes, at most that many bytes.
    Any(usize),
}

/// Where to connect to.
#[derive(Clone, Debug)]
pub enum Address {
    /// Host name or literal, and port.
    Host(String, u16),
    /// `unix:` path.
    Unix(PathBuf),
}

/// The options of `connect`.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// The pool's name; by default `host:port` or `unix:path`.
    pub pool: Option<Vec<u8>>,
    /// The size of a pool made now.
    pub pool_size: Option<usize>,
    /// How many connects may wait when the pool's size is reached.
    pub backlog: Option<usize>,
}

/// Time limits in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For `connect`.
    pub connect_ms: u32,
    /// For `send`.
    pub send_ms: u32,
    /// For `receive`.
    pub read_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect_ms: 60_000, send_ms: 60_000, read_ms: 60_000 }
    }
}

struct State {
    io: Option<Box<dyn Stream>>,
    buf: Buffer,
    timeouts: Timeouts,
    reused: u32,
    read_closed: bool,
    write_closed: bool,
    connecting: bool,
    reading: bool,
    writing: bool,
    pool_name: Vec<u8>,
    /// The limited pool in which this connection takes a place.
    place: Option<Rc<Pool>>,
}

impl State {
    fn drop_connection(&mut self) {
        self.io = None;
        self.buf = Buffer::default();
        self.read_closed = false;
        self.write_closed = false;
        if let Some(p) = self.place.take() {
            p.release();
        }
    }

    fn busy(&self) -> Result<(), SockError> {
        match (self.connecting, self.reading, self.writing) {
            (true, _, _) => Err(SockError::Busy("connecting")),
            (_, true, _) => Err(SockError::Busy("reading")),
            (_, _, true) => Err(SockError::Busy("writing")),
            _ => Ok(()),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.drop_connection();
    }
}

/// A cosocket. Clones are handles to the same one.
#[derive(Clone)]
pub struct Socket(Rc<RefCell<State>>);

impl Default for Socket {
    fn default() -> Self {
        Socket::new(Timeouts::default())
    }
}

impl Socket {
    /// An unconnected cosocket.
    pub fn new(timeouts: Timeouts) -> Socket {
        Socket(Rc::new(RefCell::new(State {
            io: None,
            buf: Buffer::default(),
            timeouts,
            reused: 0,
            read_closed: false,
            write_closed: false,
            connecting: false,
            reading: false,
            writing: false,
            pool_name: Vec::new(),
            place: None,
        })))
    }

    /// A cosocket over a stream that is already there, with bytes that were read from it before.
    pub fn over(io: Box<dyn Stream>, preread: &[u8], timeouts: Timeouts) -> Socket {
        let s = Socket::new(timeouts);
        {
            let mut st = s.0.borrow_mut();
            st.io = Some(io);
            st.buf.extend(preread);
        }
        s
    }

    /// Closes the connection whatever is under way: who used it is gone.
    pub fn abandon(&self) {
        self.0.borrow_mut().drop_connection();
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.0.borrow().io.is_some()
    }

    /// The time limits.
    pub fn timeouts(&self) -> Timeouts {
        self.0.borrow().timeouts
    }

    /// Sets the time limits.
    pub fn set_timeouts(&self, t: Timeouts) {
        self.0.borrow_mut().timeouts = t;
    }

    /// How often the connection came from a pool.
    pub fn reused_times(&self) -> Result<u32, SockError> {
        let st = self.0.borrow();
        if st.io.is_none() { Err(SockError::Closed) } else { Ok(st.reused) }
    }

    /// Runs `f` on the system's socket, if there is one.
    pub fn with_socket<R>(&self, f: impl FnOnce(socket2::SockRef<'_>) -> R) -> Result<R, SockError> {
        let st = self.0.borrow();
        st.io.as_ref().and_then(|io| io.socket()).map(f).ok_or(SockError::Closed)
    }

    /// Closes the connection.
    pub fn close(&self) -> Result<(), SockError> {
        let mut st = self.0.borrow_mut();
        st.busy()?;
        if st.io.is_none() {
            return Err(SockError::Closed);
        }
        st.drop_connection();
        Ok(())
    }

    /// Connects; a connection there before is closed first. A pooled one is taken without waiting.
    pub fn connect(
        &self,
        pools: &Rc<Pools>,
        to: Address,
        options: ConnectOptions,
        default_pool_size: usize,
    ) -> Connect {
        let name = options.pool.unwrap_or_else(|| match &to {
            Address::Host(h, p) => format!("{h}:{p}").into_bytes(),
            Address::Unix(p) => format!("unix:{}", p.display()).into_bytes(),
        });
        let step =
            self.begin_connect(pools, &to, name, options.pool_size, options.backlog, default_pool_size);
        let ms = self.0.borrow().timeouts.connect_ms;
        let owns = !matches!(step, ConnectStep::Done(Some(Err(SockError::Busy(_)))));
        if owns {
            self.0.borrow_mut().connecting = true;
        }
        Connect { sock: self.clone(), to, step, timer: OpTimer::new(ms), owns }
    }

    fn begin_connect(
        &self,
        pools: &Rc<Pools>,
        to: &Address,
        name: Vec<u8>,
        size: Option<usize>,
        backlog: Option<usize>,
        default_size: usize,
    ) -> ConnectStep {
        let mut st = self.0.borrow_mut();
        if let Err(e) = st.busy() {
            return ConnectStep::Done(Some(Err(e)));
        }
        st.drop_connection();
        st.reused = 0;
        st.pool_name = name;
        let pool = match backlog {
            Some(_) => Some(pools.get_or_create(&st.pool_name, size.unwrap_or(default_size), backlog)),
            None => match size {
                Some(n) => Some(pools.get_or_create(&st.pool_name, n, None)),
                None => pools.find(&st.pool_name),
            },
        };
        if let Some(pool) = pool {
            if let Some(idle) = pool.take_idle() {
                st.io = Some(idle.io);
                st.reused = idle.reused;
                st.place = pool.is_limited().then_some(pool);
                return ConnectStep::Done(Some(Ok(())));
            }
            match pool.take_place() {
                Err(_) => {
                    return ConnectStep::Done(Some(Err(SockError::Text(
                        "too many waiting connect operations",
                    ))));
                }
                Ok(Some(wait)) => return ConnectStep::Waiting(wait, pool),
                Ok(None) => st.place = pool.is_limited().then_some(pool),
            }
        }
        ConnectStep::Dialing(dial(to))
    }

    /// Sends bytes.
    pub fn send(&self, data: Vec<u8>) -> Send {
        let mut st = self.0.borrow_mut();
        let early = if st.io.is_none() || st.write_closed {
            Some(SockError::Closed)
        } else if st.connecting {
            Some(SockError::Busy("connecting"))
        } else if st.writing {
            Some(SockError::Busy("writing"))
        } else {
            st.writing = true;
            None
        };
        let owns = early.is_none();
        let ms = st.timeouts.send_ms;
        drop(st);
        Send { sock: self.clone(), data, at: 0, early, timer: OpTimer::new(ms), owns }
    }

    /// Receives by pattern.
    pub fn receive(&self, pattern: Pattern) -> Receive {
        self.start_read(Want::Pattern(pattern))
    }

    /// One step of a `receiveuntil` iterator. `Ok(None)` is the mark behind the last sized piece.
    pub fn receive_until(&self, until: &Rc<RefCell<Until>>, size: Option<usize>) -> Receive {
        self.start_read(Want::Until { until: until.clone(), size, clean: 0 })
    }

    fn start_read(&self, want: Want) -> Receive {
        let mut st = self.0.borrow_mut();
        let early = if st.io.is_none() || st.read_closed {
            Some(SockError::Closed)
        } else if st.connecting {
            Some(SockError::Busy("connecting"))
        } else if st.reading {
            Some(SockError::Busy("reading"))
        } else {
            st.reading = true;
            None
        };
        let owns = early.is_none();
        let ms = st.timeouts.read_ms;
        drop(st);
        Receive { sock: self.clone(), want, early, timer: OpTimer::new(ms), owns }
    }

    /// Puts the connection into its pool. `ttl_ms` 0 means for ever; `size` counts when the pool is made.
    pub fn set_keepalive(&self, pools: &Rc<Pools>, ttl_ms: u64, size: usize) -> Result<(), SockError> {
        let mut st = self.0.borrow_mut();
        st.busy()?;
        if st.read_closed || st.write_closed {
            st.drop_connection();
            return Err(SockError::Closed);
        }
        let Some(io) = st.io.as_mut() else { return Err(SockError::Closed) };
        if !is_quiet(io) {
            // Either the end of the stream or bytes that belong to no request.
            st.drop_connection();
            return Err(SockError::Text("connection in dubious state"));
        }
        if !st.buf.is_empty() {
            st.drop_connection();
            return Err(SockError::Text("unread data in buffer"));
        }
        let io = st.io.take().expect("checked above");
        let reused = st.reused;
        let pool = match st.place.take() {
            Some(p) => p,
            None => pools.get_or_create(&st.pool_name, size, None),
        };
        st.drop_connection();
        drop(st);
        pool.put(io, reused, ttl_ms);
        Ok(())
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, SockError>>>>;

fn dial(to: &Address) -> Dial {
    match to.clone() {
        Address::Unix(path) => Box::pin(async move {
            let s = UnixStream::connect(path).await.map_err(SockError::Io)?;
            Ok(Box::new(s) as Box<dyn Stream>)
        }),
        Address::Host(host, port) => Box::pin(async move {
            let s = match resolver::literal(&host) {
                Some(ip) => TcpStream::connect((ip, port)).await.map_err(SockError::Io)?,
                None => {
                    let addrs = resolver::lookup(&host, port).await.map_err(SockError::Resolve)?;
                    TcpStream::connect(&addrs[..]).await.map_err(SockError::Io)?
                }
            };
            let _ = s.set_nodelay(true);
            Ok(Box::new(s) as Box<dyn Stream>)
        }),
    }
}

/// A time limit that costs nothing until the operation really has to wait.
struct OpTimer {
    ms: u32,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl OpTimer {
    fn new(ms: u32) -> OpTimer {
        OpTimer { ms, sleep: None }
    }

    /// True when the time is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let ms = self.ms;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(u64::from(ms)))));
        sleep.as_mut().poll(cx).is_ready()
    }
}

enum ConnectStep {
    Done(Option<Result<(), SockError>>),
    Waiting(WaitPlace, Rc<Pool>),
    Dialing(Dial),
}

/// A connect under way.
pub struct Connect {
    sock: Socket,
    to: Address,
    step: ConnectStep,
    timer: OpTimer,
    owns: bool,
}

impl Future for Connect {
    type Output = Result<(), SockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let r = self.run(cx);
        if r.is_ready() {
            self.release();
        }
        r
    }
}

impl Connect {
    /// The socket is free for the next operation of its kind.
    fn release(&mut self) {
        if std::mem::take(&mut self.owns) {
            self.sock.0.borrow_mut().connecting = false;
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SockError>> {
        let me = &mut *self;
        let result = loop {
            match &mut me.step {
                ConnectStep::Done(r) => break r.take().expect("polled after completion"),
                ConnectStep::Waiting(w, pool) => match w.poll(cx) {
                    Poll::Ready(Grant::Connection(c)) => {
                        let mut st = me.sock.0.borrow_mut();
                        st.io = Some(c.io);
                        st.reused = c.reused;
                        st.place = Some(pool.clone());
                        break Ok(());
                    }
                    Poll::Ready(_) => {
                        me.sock.0.borrow_mut().place = Some(pool.clone());
                        me.step = ConnectStep::Dialing(dial(&me.to));
                    }
                    Poll::Pending if me.timer.poll(cx) => break Err(SockError::Timeout),
                    Poll::Pending => return Poll::Pending,
                },
                ConnectStep::Dialing(d) => match d.as_mut().poll(cx) {
                    Poll::Ready(Ok(io)) => {
                        me.sock.0.borrow_mut().io = Some(io);
                        break Ok(());
                    }
                    Poll::Ready(Err(e)) => break Err(e),
                    Poll::Pending if me.timer.poll(cx) => break Err(SockError::Timeout),
                    Poll::Pending => return Poll::Pending,
                },
            }
        };
        if result.is_err() && me.owns {
            me.sock.0.borrow_mut().drop_connection();
        }
        me.step = ConnectStep::Done(None);
        Poll::Ready(result)
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        self.release();
    }
}

/// A send under way.
pub struct Send {
    sock: Socket,
    data: Vec<u8>,
    at: usize,
    early: Option<SockError>,
    timer: OpTimer,
    owns: bool,
}

impl Future for Send {
    /// The number of bytes sent.
    type Output = Result<usize, SockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let r = self.run(cx);
        if r.is_ready() {
            self.release();
        }
        r
    }
}

impl Send {
    /// The socket is free for the next operation of its kind.
    fn release(&mut self) {
        if std::mem::take(&mut self.owns) {
            self.sock.0.borrow_mut().writing = false;
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, SockError>> {
        let me = &mut *self;
        if let Some(e) = me.early.take() {
            return Poll::Ready(Err(e));
        }
        let mut st = me.sock.0.borrow_mut();
        let st = &mut *st;
        let Some(io) = st.io.as_mut() else { return Poll::Ready(Err(SockError::Closed)) };
        while me.at < me.data.len() {
            match Pin::new(&mut *io).poll_write(cx, &me.data[me.at..]) {
                Poll::Ready(Ok(0)) => {
                    st.write_closed = true;
                    return Poll::Ready(Err(SockError::Closed));
                }
                Poll::Ready(Ok(n)) => me.at += n,
                Poll::Ready(Err(e)) => {
                    st.write_closed = true;
                    return Poll::Ready(Err(SockError::Io(e)));
                }
                Poll::Pending => {
                    if me.timer.poll(cx) {
                        // What was sent of the message is on its way: the stream cannot be used for another.
                        st.write_closed = true;
                        return Poll::Ready(Err(SockError::Timeout));
                    }
                    return Poll::Pending;
                }
            }
        }
        match Pin::new(io).poll_flush(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(SockError::Io(e))),
            _ => Poll::Ready(Ok(me.data.len())),
        }
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        self.release();
    }
}

enum Want {
    Pattern(Pattern),
    Until { until: Rc<RefCell<Until>>, size: Option<usize>, clean: usize },
}

/// A read under way.
pub struct Receive {
    sock: Socket,
    want: Want,
    early: Option<SockError>,
    timer: OpTimer,
    owns: bool,
}

impl Receive {
    /// What the buffer already answers; `None` when more has to be read.
    fn look(want: &mut Want, buf: &mut Buffer) -> Option<Option<Vec<u8>>> {
        match want {
            Want::Pattern(Pattern::Line) => {
                let end = memchr::memchr(b'\n', buf.filled())?;
                let mut line = buf.take(end + 1);
                line.pop();
                drop_returns(&mut line);
                Some(Some(line))
            }
            Want::Pattern(Pattern::All) => None,
            Want::Pattern(Pattern::Bytes(n)) => (buf.len() >= *n).then(|| Some(buf.take(*n))),
            Want::Pattern(Pattern::Any(max)) => {
                (!buf.is_empty()).then(|| Some(buf.take(buf.len().min(*max))))
            }
            Want::Until { until, size, clean } => {
                match until.borrow_mut().step(buf.filled(), *clean, *size) {
                    UntilStep::Found { data, drop, .. } => {
                        let out = buf.take(data);
                        buf.skip(drop);
                        *clean = 0;
                        Some(Some(out))
                    }
                    UntilStep::More { clean: c } => {
                        *clean = c;
                        None
                    }
                }
            }
        }
    }

    fn read_size(&self, have: usize) -> usize {
        match self.want {
            Want::Pattern(Pattern::Bytes(n)) => (n - have.min(n)).clamp(READ_BYTES, READ_BYTES_MAX),
            Want::Pattern(Pattern::All) => have.clamp(READ_BYTES, READ_BYTES_MAX),
            _ => READ_BYTES,
        }
    }

    fn partial(&self, buf: &mut Buffer) -> Vec<u8> {
        let mut data = buf.take(buf.len());
        if matches!(self.want, Want::Pattern(Pattern::Line)) {
            drop_returns(&mut data);
        }
        data
    }
}

fn drop_returns(line: &mut Vec<u8>) {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if memchr::memchr(b'\r', line).is_some() {
        line.retain(|&b| b != b'\r');
    }
}

impl Future for Receive {
    /// The bytes; `None` is the mark at the end of a sized `receiveuntil`.
    type Output = Result<Option<Vec<u8>>, ReadError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let r = self.run(cx);
        if r.is_ready() {
            self.release();
        }
        r
    }
}

impl Receive {
    /// The socket is free for the next operation of its kind.
    fn release(&mut self) {
        if std::mem::take(&mut self.owns) {
            self.sock.0.borrow_mut().reading = false;
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>, ReadError>> {
        let me = &mut *self;
        if let Want::Until { until, .. } = &me.want
            && !matches!(me.early, Some(SockError::Busy(_)))
            && until.borrow_mut().take_ended()
        {
            return Poll::Ready(Ok(None));
        }
        if let Some(error) = me.early.take() {
            return Poll::Ready(Err(ReadError { error, partial: Vec::new() }));
        }
        let sock = me.sock.clone();
        let mut st = sock.0.borrow_mut();
        let st = &mut *st;
        loop {
            if let Some(out) = Receive::look(&mut me.want, &mut st.buf) {
                return Poll::Ready(Ok(out));
            }
            let Some(io) = st.io.as_mut() else {
                return Poll::Ready(Err(ReadError { error: SockError::Closed, partial: Vec::new() }));
            };
            let room = me.read_size(st.buf.len());
            let got = st.buf.fill_with(room, |space| {
                let mut rb = ReadBuf::new(space);
                let r = Pin::new(io).poll_read(cx, &mut rb);
                let n = rb.filled().len();
                (r.map_ok(|()| n), n)
            });
            match got {
                Poll::Ready(Ok(0)) => {
                    st.read_closed = true;
                    let partial = me.partial(&mut st.buf);
                    if matches!(me.want, Want::Pattern(Pattern::All)) {
                        return Poll::Ready(Ok(Some(partial)));
                    }
                    return Poll::Ready(Err(ReadError { error: SockError::Closed, partial }));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(e)) => {
                    st.read_closed = true;
                    let partial = me.partial(&mut st.buf);
                    return Poll::Ready(Err(ReadError { error: SockError::Io(e), partial }));
                }
                Poll::Pending => {
                    if me.timer.poll(cx) {
                        let partial = me.partial(&mut st.buf);
                        return Poll::Ready(Err(ReadError { error: SockError::Timeout, partial }));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn run<F: Future<Output = ()>>(f: F) {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&rt, f);
    }

    fn real<F: Future<Output = ()>>(f: F) {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&rt, f);
    }

    fn pair() -> (Socket, tokio::io::DuplexStream) {
        let (a, b) = tokio::io::duplex(1 << 16);
        (Socket::over(Box::new(a), b"", Timeouts { connect_ms: 50, send_ms: 50, read_ms: 50 }), b)
    }

    fn now<F: Future + Unpin>(mut f: F) -> Option<F::Output> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(&mut f).poll(&mut cx) {
            Poll::Ready(v) => Some(v),
            Poll::Pending => None,
        }
    }

    #[test]
    fn data_already_there_is_received_without_waiting() {
        run(async {
            let (s, mut peer) = pair();
            peer.write_all(b"+PO\rNG\r\nabcdef").await.unwrap();
            assert_eq!(now(s.receive(Pattern::Line)).unwrap().unwrap().unwrap(), b"+PONG");
            assert_eq!(now(s.receive(Pattern::Bytes(4))).unwrap().unwrap().unwrap(), b"abcd");
            assert_eq!(now(s.receive(Pattern::Any(1))).unwrap().unwrap().unwrap(), b"e");
            assert_eq!(now(s.receive(Pattern::Bytes(0))).unwrap().unwrap().unwrap(), b"");
            let pending = s.receive(Pattern::Bytes(5));
            let busy = now(s.receive(Pattern::Line)).unwrap().unwrap_err();
            assert_eq!(busy.error.text(), "socket busy reading");
            drop(pending);
            assert!(now(s.receive(Pattern::Bytes(1))).unwrap().is_ok());
        });
    }

    #[test]
    fn timeout_returns_the_partial_data_and_keeps_the_connection() {
        run(async {
            let (s, mut peer) = pair();
            peer.write_all(b"abc").await.unwrap();
            let e = s.receive(Pattern::Bytes(10)).await.unwrap_err();
            assert_eq!((e.error.text().as_str(), &e.partial[..]), ("timeout", &b"abc"[..]));
            peer.write_all(b"line\n").await.unwrap();
            assert_eq!(s.receive(Pattern::Line).await.unwrap().unwrap(), b"line");
        });
    }

    #[test]
    fn closed_peer_ends_reads_with_partial_data_and_all_with_success() {
        run(async {
            let (s, mut peer) = pair();
            peer.write_all(b"rest").await.unwrap();
            drop(peer);
            let e = s.receive(Pattern::Line).await.unwrap_err();
            assert_eq!((e.error.text().as_str(), &e.partial[..]), ("closed", &b"rest"[..]));
            assert_eq!(s.receive(Pattern::Line).await.unwrap_err().error.text(), "closed");
            let (s, mut peer) = pair();
            peer.write_all(b"all of it").await.unwrap();
            drop(peer);
            assert_eq!(s.receive(Pattern::All).await.unwrap().unwrap(), b"all of it");
        });
    }

    #[test]
    fn receive_until_goes_on_over_several_calls() {
        run(async {
            let (s, mut peer) = pair();
            let u = Rc::new(RefCell::new(Until::new(b"--", false)));
            let read = s.receive_until(&u, None);
            let write = async {
                peer.write_all(b"one-").await.unwrap();
                tokio::task::yield_now().await;
                peer.write_all(b"-two--x").await.unwrap();
            };
            let (got, ()) = tokio::join!(read, write);
            assert_eq!(got.unwrap().unwrap(), b"one");
            assert_eq!(s.receive_until(&u, None).await.unwrap().unwrap(), b"two");
            drop(peer);
            let e = s.receive_until(&u, None).await.unwrap_err();
            assert_eq!((e.error.text().as_str(), &e.partial[..]), ("closed", &b"x"[..]));
        });
    }

    #[test]
    fn send_waits_for_room_and_times_out() {
        run(async {
            let (a, mut b) = tokio::io::duplex(4);
            let s = Socket::over(Box::new(a), b"", Timeouts { connect_ms: 50, send_ms: 50, read_ms: 50 });
            let (sent, got) = tokio::join!(s.send(b"hello world".to_vec()), async {
                let mut got = [0u8; 11];
                b.read_exact(&mut got).await.unwrap();
                got
            });
            assert_eq!((sent.unwrap(), &got[..]), (11, &b"hello world"[..]));
            assert_eq!(s.send(b"too much".to_vec()).await.unwrap_err().text(), "timeout");
            assert_eq!(s.send(b"x".to_vec()).await.unwrap_err().text(), "closed");
        });
    }

    #[test]
    fn connection_goes_back_to_its_pool_and_is_reused() {
        real(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let pools = Pools::new();
            let to = || Address::Host("127.0.0.1".into(), port);
            let s = Socket::default();
            s.connect(&pools, to(), ConnectOptions::default(), 30).await.unwrap();
            let (mut peer, _) = listener.accept().await.unwrap();
            assert_eq!(s.reused_times().unwrap(), 0);
            s.set_keepalive(&pools, 0, 30).unwrap();
            assert_eq!(s.send(b"x".to_vec()).await.unwrap_err().text(), "closed");
            let s = Socket::default();
            now(s.connect(&pools, to(), ConnectOptions::default(), 30)).unwrap().unwrap();
            assert_eq!(s.reused_times().unwrap(), 1);
            peer.write_all(b"junk").await.unwrap();
            tokio::task::yield_now().await;
            while s.0.borrow().buf.is_empty() && s.set_keepalive(&pools, 0, 30).is_ok() {
                s.connect(&pools, to(), ConnectOptions::default(), 30).await.unwrap();
            }
            assert_eq!(s.reused_times().unwrap_err().text(), "closed");
        });
    }

    #[test]
    fn refused_connect_says_so_and_backlog_limits_connections() {
        real(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let pools = Pools::new();
            let opts = || ConnectOptions { pool: Some(b"p".to_vec()), pool_size: Some(1), backlog: Some(1) };
            let to = || Address::Host("127.0.0.1".into(), port);
            let (a, b, c) = (Socket::default(), Socket::default(), Socket::default());
            a.connect(&pools, to(), opts(), 30).await.unwrap();
            let mut waiting = b.connect(&pools, to(), opts(), 30);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut waiting).poll(&mut cx).is_pending());
            let full = c.connect(&pools, to(), opts(), 30).await.unwrap_err();
            assert_eq!(full.text(), "too many waiting connect operations");
            a.close().unwrap();
            waiting.await.unwrap();
            drop(listener);
            let gone = Socket::default().connect(&pools, to(), ConnectOptions::default(), 30).await;
            assert_eq!(gone.unwrap_err().text(), "connection refused");
        });
    }
}
