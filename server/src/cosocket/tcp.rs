//! The stream cosocket: its state, connecting, closing, going back to a pool.
//!
//! `Socket` is a cheap handle. Its operations are futures that own a handle and
//! move freely: poll one on the spot, and if it is not ready give it to whoever
//! waits. Error texts are what OpenResty's scripts compare with. Knows no Lua.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::buffer::Buffer;
use super::error::SockError;
use super::pool::{Grant, Peek, PeerName, Place, Pool, Pools, WaitPlace, Waiting, peek};
use super::resolver::{Lookup, Names};
use super::stream::{Dial, Stream, descriptor, dial_tcp, dial_unix, on_socket};
use super::target::{Target, parse};
use super::trace::Trace;
use crate::http1::deadline::Deadline;

/// What a connect needs besides the target.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The pool's name.
    pub pool: Vec<u8>,
    /// The size of a pool made now; `None` makes none.
    pub pool_size: Option<usize>,
    /// How many connects may wait when the pool's size is reached.
    pub backlog: Option<usize>,
    /// The address to connect from.
    pub local: Option<SocketAddr>,
    /// Who resolves names.
    pub names: Names,
    /// Whether small writes of a new connection go out at once.
    pub nodelay: bool,
}

/// Time limits in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For `connect`.
    pub connect_ms: u32,
    /// Between two writes of `send`.
    pub send_ms: u32,
    /// Between two reads of `receive`.
    pub read_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect_ms: 60_000, send_ms: 60_000, read_ms: 60_000 }
    }
}

/// Bytes asked for in one read, unless something else is set.
const READ_BYTES: usize = 4096;

pub(super) struct State {
    pub(super) io: Option<Box<dyn Stream>>,
    pub(super) buf: Buffer,
    /// Bytes asked for in one read.
    pub(super) buffer_bytes: usize,
    pub(super) timeouts: Timeouts,
    reused: u32,
    /// The stream has ended; what is in the buffer may still be read.
    pub(super) eof: bool,
    pub(super) read_closed: bool,
    pub(super) write_closed: bool,
    pub(super) connecting: bool,
    /// A connection is being made: there is one, but it cannot be used yet.
    pub(super) dialing: bool,
    /// TCP_NODELAY is to be set before the first write.
    pub(super) nodelay_due: bool,
    pub(super) reading: bool,
    pub(super) writing: bool,
    /// It is the client's connection of a request: neither closed nor connected by scripts.
    of_request: bool,
    pool_name: Vec<u8>,
    /// Where this connection is counted.
    place: Option<Place>,
    pub(super) peer: PeerName,
    pub(super) trace: Trace,
    /// Held while there is a connection, for whoever ties it to something.
    tie: Option<Box<dyn Any>>,
}

impl State {
    pub(super) fn drop_connection(&mut self) {
        if self.is_there() {
            self.trace.text("lua finalize socket");
            if !self.of_request {
                self.trace.text("lua close socket connection");
            }
        }
        self.io = None;
        self.dialing = false;
        self.nodelay_due = false;
        self.buf = Buffer::default();
        self.eof = false;
        self.read_closed = false;
        self.write_closed = false;
        self.place = None;
        self.tie = None;
    }

    /// Whether there is a connection, if only one being made.
    pub(super) fn is_there(&self) -> bool {
        self.io.is_some() || self.dialing
    }

    pub(super) fn busy(&self) -> Result<(), SockError> {
        match (self.connecting, self.reading, self.writing) {
            (true, _, _) => Err(SockError::Busy("connecting")),
            (_, true, _) => Err(SockError::Busy("reading")),
            (_, _, true) => Err(SockError::Busy("writing")),
            _ => Ok(()),
        }
    }

    pub(super) fn usable(&self) -> Result<(), SockError> {
        if !self.is_there() || (self.read_closed && self.write_closed) {
            return Err(SockError::NotConnected);
        }
        Ok(())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.drop_connection();
    }
}

/// A cosocket. Clones are handles to the same one.
#[derive(Clone)]
pub struct Socket(pub(super) Rc<RefCell<State>>);

/// A handle that does not keep the socket open.
pub struct WeakSocket(std::rc::Weak<RefCell<State>>);

impl WeakSocket {
    /// Closes the connection if there is still somebody who could use it.
    pub fn abandon(&self) {
        if let Some(state) = self.0.upgrade() {
            Socket(state).abandon();
        }
    }
}

impl Default for Socket {
    fn default() -> Self {
        Socket::new(Timeouts::default(), Trace::default())
    }
}

impl Socket {
    /// An unconnected cosocket.
    pub fn new(timeouts: Timeouts, trace: Trace) -> Socket {
        Socket(Rc::new(RefCell::new(State {
            io: None,
            buf: Buffer::default(),
            buffer_bytes: READ_BYTES,
            timeouts,
            reused: 0,
            eof: false,
            read_closed: false,
            write_closed: false,
            connecting: false,
            dialing: false,
            nodelay_due: false,
            reading: false,
            writing: false,
            of_request: false,
            pool_name: Vec::new(),
            place: None,
            peer: PeerName::default(),
            trace,
            tie: None,
        })))
    }

    /// A cosocket over a stream that is already there: the client's connection of a request. `nodelay`
    /// has small writes go out at once.
    pub fn over(io: Box<dyn Stream>, timeouts: Timeouts, trace: Trace, nodelay: bool) -> Socket {
        let s = Socket::new(timeouts, trace);
        {
            let mut st = s.0.borrow_mut();
            st.io = Some(io);
            st.of_request = true;
            st.nodelay_due = nodelay;
        }
        s
    }

    /// Closes the connection whatever is under way: who used it is gone.
    pub fn abandon(&self) {
        let mut st = self.0.borrow_mut();
        st.drop_connection();
        st.read_closed = true;
        st.write_closed = true;
    }

    /// A handle that does not keep it open.
    pub fn downgrade(&self) -> WeakSocket {
        WeakSocket(Rc::downgrade(&self.0))
    }

    /// Keeps `tie` until the connection is closed or goes back to its pool.
    pub fn set_tie(&self, tie: Box<dyn Any>) {
        self.0.borrow_mut().tie = Some(tie);
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.0.borrow().is_there()
    }

    /// Whether its connection is counted in a pool already.
    pub fn is_counted(&self) -> bool {
        self.0.borrow().place.is_some()
    }

    /// The time limits.
    pub fn timeouts(&self) -> Timeouts {
        self.0.borrow().timeouts
    }

    /// Sets the time limits.
    pub fn set_timeouts(&self, t: Timeouts) {
        self.0.borrow_mut().timeouts = t;
    }

    /// Sets how many bytes are asked for in one read.
    pub fn set_buffer_size(&self, bytes: usize) {
        self.0.borrow_mut().buffer_bytes = bytes.max(1);
    }

    /// Sets where its debug lines go.
    pub fn set_trace(&self, trace: Trace) {
        self.0.borrow_mut().trace = trace;
    }

    /// How often the connection came from a pool.
    pub fn reused_times(&self) -> Result<u32, SockError> {
        let st = self.0.borrow();
        st.usable().map(|()| st.reused)
    }

    /// Whom it leads to, for log lines.
    pub fn peer(&self) -> PeerName {
        self.0.borrow().peer.clone()
    }

    /// `u:ADDRESS, c:ADDRESS, ft:0 eof:FLAG`: what nginx tells about a socket that was used while closed.
    pub fn describe(&self) -> String {
        let st = self.0.borrow();
        let c = st.io.as_ref().map_or(0, |io| (&raw const **io).cast::<u8>() as usize);
        format!("u:{:016X}, c:{c:016X}, ft:0 eof:{}", Rc::as_ptr(&self.0) as usize, u8::from(st.eof))
    }

    /// Runs `f` on the system's socket, if there is one.
    pub fn with_socket<R>(&self, f: impl FnOnce(socket2::SockRef<'_>) -> R) -> Result<R, SockError> {
        let st = self.0.borrow();
        st.usable()?;
        st.io.as_ref().and_then(|io| on_socket(&**io, f)).ok_or(SockError::Closed)
    }

    /// Closes the connection.
    pub fn close(&self) -> Result<(), SockError> {
        let mut st = self.0.borrow_mut();
        st.usable()?;
        st.busy()?;
        if st.of_request {
            return Err(SockError::Text("attempt to close a request socket"));
        }
        st.drop_connection();
        Ok(())
    }

    /// Whether a new connect may begin; a connection there before is closed.
    pub fn prepare_connect(&self) -> Result<(), SockError> {
        let mut st = self.0.borrow_mut();
        st.busy()?;
        if st.io.is_some() {
            st.trace.text("lua tcp socket reconnect without shutting down");
        }
        st.drop_connection();
        st.reused = 0;
        st.peer = PeerName::default();
        Ok(())
    }

    /// Connects to a host as `target::parse` reads it; a pooled connection is taken without waiting. To be
    /// called after `prepare_connect`.
    pub fn connect(&self, pools: &Rc<Pools>, host: &[u8], port: u16, options: ConnectOptions) -> Connect {
        let mut st = self.0.borrow_mut();
        let st = &mut *st;
        st.pool_name.clone_from(&options.pool);
        st.connecting = true;
        let trace = st.trace.clone();
        let pool = match options.pool_size {
            Some(n) => Some(pools.get_or_create(&options.pool, n, options.backlog, &trace)),
            None => pools.find(&options.pool),
        };
        let mut step = ConnectStep::Begin;
        if let Some(pool) = pool {
            if let Some((idle, place)) = pool.take_idle(&trace) {
                st.io = Some(idle.io);
                st.reused = idle.reused;
                st.peer = idle.peer;
                st.place = Some(place);
                step = ConnectStep::Done(Some(Ok(())));
            } else {
                match pool.take_place(&trace) {
                    Err(_) => {
                        let full = SockError::Text("too many waiting connect operations");
                        step = ConnectStep::Done(Some(Err(full)));
                    }
                    Ok(Waiting::Queued(wait)) => {
                        let ms = st.timeouts.connect_ms;
                        trace.line(|| format!("lua tcp socket queued connect operation for {ms}(ms)"));
                        step = ConnectStep::Waiting(wait);
                    }
                    Ok(Waiting::Not(place)) => st.place = Some(place),
                }
            }
        }
        let timer = OpTimer::new(st.timeouts.connect_ms);
        Connect {
            sock: self.clone(),
            host: host.to_vec(),
            port,
            step,
            timer,
            owns: true,
            local: options.local,
            names: options.names,
            nodelay: options.nodelay,
        }
    }

    /// Puts the connection into its pool. `ttl_ms` 0 means for ever; `size` counts when the pool is made;
    /// a worker on its way out (`exiting`) keeps none.
    pub fn set_keepalive(
        &self,
        pools: &Rc<Pools>,
        ttl_ms: u64,
        size: usize,
        exiting: bool,
    ) -> Result<(), SockError> {
        let mut st = self.0.borrow_mut();
        if st.eof || st.read_closed || st.write_closed {
            return Err(SockError::NotConnected);
        }
        st.usable()?;
        st.busy()?;
        let Some(io) = st.io.as_mut() else { return Err(SockError::NotConnected) };
        let lies = peek(io);
        if lies == Peek::Ended {
            st.eof = true;
            return Err(SockError::NotConnected);
        }
        if !st.buf.is_empty() {
            return Err(SockError::Text("unread data in buffer"));
        }
        if exiting {
            st.trace.text("lua tcp socket set keepalive while process exiting, closing connection");
            st.drop_connection();
            return Ok(());
        }
        let trace = st.trace.clone();
        let Some(io) = st.io.take() else { return Err(SockError::NotConnected) };
        trace.line(|| {
            let at = (&raw const *io).cast::<u8>() as usize;
            format!("lua tcp socket set keepalive: saving connection {at:016X}")
        });
        let place = match st.place.take() {
            Some(place) => place,
            None => pools.get_or_create(&st.pool_name, size, None, &trace).count_one(),
        };
        trace.text("lua tcp socket clear current socket connection");
        trace.line(|| match ttl_ms {
            0 => "lua tcp socket keepalive timeout: unlimited".to_owned(),
            ms => format!("lua tcp socket keepalive timeout: {ms} ms"),
        });
        let (reused, peer) = (st.reused, std::mem::take(&mut st.peer));
        if lies == Peek::Bytes {
            trace.text("lua tcp socket keepalive close handler check stale events");
            trace.line(|| format!("lua tcp socket keepalive close handler: fd:{}", descriptor(&*io)));
            st.drop_connection();
            drop(st);
            drop(io);
            drop(place);
            return Err(SockError::Text("connection in dubious state"));
        }
        st.drop_connection();
        trace.text("lua finalize socket");
        drop(st);
        Pool::put(place, io, reused, peer, ttl_ms);
        Ok(())
    }
}

/// Limits from here on may strike some hundredths late, and cost a store in place of a timer.
const COARSE_MS: u32 = 500;

/// A time limit that costs nothing until the operation really has to wait.
pub(super) struct OpTimer {
    ms: u32,
    armed: bool,
    clock: OpClock,
}

enum OpClock {
    None,
    Coarse(Deadline),
    Exact(Pin<Box<Sleep>>),
}

impl OpTimer {
    pub(super) fn new(ms: u32) -> OpTimer {
        OpTimer { ms, armed: false, clock: OpClock::None }
    }

    /// The time begins anew at the next wait, with the limit that is set now.
    pub(super) fn rearm(&mut self, ms: u32) {
        self.ms = ms;
        self.armed = false;
    }

    /// True when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if !std::mem::replace(&mut self.armed, true) {
            self.arm();
        }
        match &mut self.clock {
            OpClock::None => false,
            OpClock::Coarse(deadline) => deadline.poll(cx),
            OpClock::Exact(sleep) => sleep.as_mut().poll(cx).is_ready(),
        }
    }

    fn arm(&mut self) {
        let time = Duration::from_millis(u64::from(self.ms));
        match &mut self.clock {
            OpClock::Coarse(deadline) if self.ms >= COARSE_MS => deadline.arm(u64::from(self.ms)),
            OpClock::Exact(sleep) if self.ms < COARSE_MS => {
                sleep.as_mut().reset(tokio::time::Instant::now() + time);
            }
            clock if self.ms >= COARSE_MS => {
                let mut deadline = Deadline::new();
                deadline.arm(u64::from(self.ms));
                *clock = OpClock::Coarse(deadline);
            }
            clock => *clock = OpClock::Exact(Box::pin(tokio::time::sleep(time))),
        }
    }
}

enum ConnectStep {
    Begin,
    Done(Option<Result<(), SockError>>),
    Waiting(WaitPlace),
    Resolving(Lookup, u16),
    Dialing(Dial),
}

/// A connect under way.
pub struct Connect {
    sock: Socket,
    host: Vec<u8>,
    port: u16,
    step: ConnectStep,
    timer: OpTimer,
    owns: bool,
    local: Option<SocketAddr>,
    names: Names,
    nodelay: bool,
}

impl Future for Connect {
    type Output = Result<(), SockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let r = self.run(cx);
        if let Poll::Ready(r) = &r {
            self.release();
            if r.is_err() {
                self.sock.0.borrow_mut().drop_connection();
            }
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
        let trace = self.sock.0.borrow().trace.clone();
        loop {
            match &mut self.step {
                ConnectStep::Begin => {
                    if let Err(e) = self.begin(&trace) {
                        return Poll::Ready(Err(e));
                    }
                }
                ConnectStep::Done(r) => {
                    return Poll::Ready(r.take().unwrap_or(Err(SockError::NotConnected)));
                }
                ConnectStep::Waiting(w) => match w.poll(cx, &trace) {
                    Poll::Ready(Grant::Connection(c, place)) => {
                        let mut st = self.sock.0.borrow_mut();
                        st.io = Some(c.io);
                        st.reused = c.reused;
                        st.peer = c.peer;
                        st.place = Some(place);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Grant::Place(place)) => {
                        self.sock.0.borrow_mut().place = Some(place);
                        self.step = ConnectStep::Begin;
                    }
                    Poll::Ready(Grant::None) | Poll::Pending => {
                        if self.timer.poll(cx) {
                            return Poll::Ready(Err(SockError::QueueTimeout));
                        }
                        return Poll::Pending;
                    }
                },
                ConnectStep::Resolving(lookup, port) => {
                    let port = *port;
                    match Pin::new(lookup).poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(text)) => return Poll::Ready(Err(SockError::Resolve(text))),
                        Poll::Ready(Ok(found)) => self.dial_found(&found, port, &trace),
                    }
                }
                ConnectStep::Dialing(d) => match d.as_mut().poll(cx) {
                    Poll::Ready(Ok(io)) => {
                        trace.line(|| format!("lua tcp socket connected: fd:{}", descriptor(&*io)));
                        let mut st = self.sock.0.borrow_mut();
                        st.nodelay_due = self.nodelay && st.peer.port > 0;
                        st.io = Some(io);
                        st.dialing = false;
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending if self.timer.poll(cx) => return Poll::Ready(Err(SockError::Timeout)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn begin(&mut self, trace: &Trace) -> Result<(), SockError> {
        let to = parse(&self.host, self.port).map_err(|text| {
            let host = String::from_utf8_lossy(&self.host);
            SockError::Resolve(format!("failed to parse host name \"{host}\": {text}"))
        })?;
        let ms = self.sock.0.borrow().timeouts.connect_ms;
        trace.line(|| format!("lua tcp socket connect timeout: {ms}"));
        self.timer.rearm(ms);
        match to {
            Target::Unix(path) => {
                trace.text("lua tcp socket network address given directly");
                let host = format!("unix:{}", path.display());
                self.name_peer(PeerName { host: host.clone(), port: 0, addr: host });
                self.dial(dial_unix(&path));
            }
            Target::Addr(addr) => {
                trace.text("lua tcp socket network address given directly");
                let (host, ip) = (host_text(addr.ip()), addr.ip().to_string());
                self.name_peer(PeerName { host, port: addr.port(), addr: ip });
                self.dial(dial_tcp(vec![addr], self.local));
            }
            Target::Name(name, port) => {
                let lookup = self.names.lookup(&name, trace);
                self.name_peer(PeerName { host: name, port: 0, addr: String::new() });
                self.step = ConnectStep::Resolving(lookup, port);
            }
        }
        Ok(())
    }

    fn dial(&mut self, dial: Dial) {
        self.sock.0.borrow_mut().dialing = true;
        self.step = ConnectStep::Dialing(dial);
    }

    fn name_peer(&self, peer: PeerName) {
        self.sock.0.borrow_mut().peer = peer;
    }

    fn dial_found(&mut self, found: &[IpAddr], port: u16, trace: &Trace) {
        for ip in found {
            trace.line(|| format!("name was resolved to {ip}"));
        }
        let to: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        {
            let mut st = self.sock.0.borrow_mut();
            st.peer.port = port;
            st.peer.addr = found.first().map(ToString::to_string).unwrap_or_default();
        }
        self.dial(dial_tcp(to, self.local));
    }
}

fn host_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        if self.owns {
            self.release();
            let mut st = self.sock.0.borrow_mut();
            if matches!(self.step, ConnectStep::Resolving(..)) {
                st.trace.text("lua tcp socket abort resolver");
            }
            st.drop_connection();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rw::Pattern;
    use super::*;
    use crate::testing::run;
    use tokio::io::AsyncWriteExt;

    fn options(pool: &[u8]) -> ConnectOptions {
        ConnectOptions {
            pool: pool.to_vec(),
            pool_size: None,
            backlog: None,
            local: None,
            names: Names::None,
            nodelay: true,
        }
    }

    async fn listen() -> (tokio::net::TcpListener, u16) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap().port();
        (listener, to)
    }

    fn connect(s: &Socket, pools: &Rc<Pools>, to: &u16, o: ConnectOptions) -> Connect {
        s.prepare_connect().unwrap();
        s.connect(pools, b"127.0.0.1", *to, o)
    }

    fn now<F: Future + Unpin>(mut f: F) -> Option<F::Output> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(&mut f).poll(&mut cx) {
            Poll::Ready(v) => Some(v),
            Poll::Pending => None,
        }
    }

    #[test]
    fn connection_goes_back_to_its_pool_and_is_reused() {
        run(async {
            let (listener, to) = listen().await;
            let pools = Pools::new();
            let s = Socket::default();
            connect(&s, &pools, &to, options(b"p")).await.unwrap();
            let (mut peer, _) = listener.accept().await.unwrap();
            assert_eq!(s.reused_times().unwrap(), 0);
            s.set_keepalive(&pools, 0, 30, false).unwrap();
            assert_eq!(s.send(b"x".to_vec()).await.unwrap_err().text(), "closed");
            let s = Socket::default();
            now(connect(&s, &pools, &to, options(b"p"))).unwrap().unwrap();
            assert_eq!(s.reused_times().unwrap(), 1);
            peer.write_all(b"junk").await.unwrap();
            let got = s.receive(Pattern::Bytes(1)).await.unwrap().unwrap();
            assert_eq!(got, b"j");
            assert_eq!(s.set_keepalive(&pools, 0, 30, false).unwrap_err().text(), "unread data in buffer");
            s.receive(Pattern::Bytes(3)).await.unwrap();
            peer.write_all(b"more").await.unwrap();
            let nothing = || {
                let mut byte = [std::mem::MaybeUninit::uninit()];
                s.with_socket(|sock| sock.peek(&mut byte).is_err()).unwrap()
            };
            while nothing() {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            let e = s.set_keepalive(&pools, 0, 30, false).unwrap_err();
            assert_eq!(e.text(), "connection in dubious state");
            assert_eq!(s.reused_times().unwrap_err().text(), "closed");
            assert!(pools.is_empty(), "the pool went with its last connection");
        });
    }

    #[test]
    fn idle_connection_closed_by_its_peer_leaves_the_pool_and_takes_it_along() {
        run(async {
            let (listener, to) = listen().await;
            let pools = Pools::new();
            let s = Socket::default();
            connect(&s, &pools, &to, options(b"p")).await.unwrap();
            let (peer, _) = listener.accept().await.unwrap();
            s.set_keepalive(&pools, 0, 30, false).unwrap();
            assert_eq!(pools.len(), 1);
            drop(peer);
            while !pools.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            connect(&s, &pools, &to, options(b"p")).await.unwrap();
            s.set_keepalive(&pools, 5, 30, false).unwrap();
            while !pools.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn refused_connect_says_so_and_backlog_limits_connections() {
        run(async {
            let (listener, to) = listen().await;
            let pools = Pools::new();
            let opts = || ConnectOptions { pool_size: Some(1), backlog: Some(1), ..options(b"p") };
            let (a, b, c) = (Socket::default(), Socket::default(), Socket::default());
            connect(&a, &pools, &to, opts()).await.unwrap();
            let mut waiting = connect(&b, &pools, &to, opts());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut waiting).poll(&mut cx).is_pending());
            let full = connect(&c, &pools, &to, opts()).await.unwrap_err();
            assert_eq!(full.text(), "too many waiting connect operations");
            a.close().unwrap();
            waiting.await.unwrap();
            b.set_timeouts(Timeouts { connect_ms: 20, ..Timeouts::default() });
            c.set_timeouts(Timeouts { connect_ms: 20, ..Timeouts::default() });
            let late = connect(&c, &pools, &to, opts()).await.unwrap_err();
            assert!(matches!(late, SockError::QueueTimeout) && late.text() == "timeout");
            // A connection given back goes to who waits, although its queue was left once.
            let mut waiting = connect(&c, &pools, &to, opts());
            assert!(Pin::new(&mut waiting).poll(&mut cx).is_pending());
            b.set_keepalive(&pools, 0, 1, false).unwrap();
            waiting.await.unwrap();
            assert_eq!(c.reused_times().unwrap(), 1);
            c.close().unwrap();
            assert!(pools.is_empty());
            drop(listener);
            let gone = connect(&Socket::default(), &pools, &to, options(b"q")).await;
            assert_eq!(gone.unwrap_err().text(), "connection refused");
        });
    }
}
