//! The datagram cosocket: UDP and Unix datagrams to one peer.
//!
//! Sending never waits; receiving takes one datagram. Knows no Lua.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixDatagram};

use super::error::{Call, SockError};
use super::pool::PeerName;
use super::resolver::{Lookup, Names};
use super::target::Target;
use super::tcp::OpTimer;
use super::trace::Trace;

/// Largest datagram.
pub const DATAGRAM_BYTES_MAX: usize = 65_536;

#[derive(Clone)]
enum Io {
    Udp(Rc<UdpSocket>),
    Unix(Rc<UnixDatagram>),
}

impl Io {
    fn descriptor(&self) -> i32 {
        match self {
            Io::Udp(s) => s.as_raw_fd(),
            Io::Unix(s) => s.as_raw_fd(),
        }
    }

    fn read(&self, data: &mut [u8]) -> io::Result<usize> {
        match self {
            Io::Udp(s) => (&*SockRef::from(&**s)).read(data),
            Io::Unix(s) => (&*SockRef::from(&**s)).read(data),
        }
    }

    /// Takes a datagram of at most `size` bytes. An error that the peer's machine reports wakes too.
    async fn receive(self, size: usize) -> io::Result<Vec<u8>> {
        let wake = Interest::READABLE.add(Interest::ERROR);
        let take = || {
            let mut data = vec![0u8; size];
            self.read(&mut data).map(|n| {
                data.truncate(n);
                data
            })
        };
        match &self {
            Io::Udp(s) => s.async_io(wake, take).await,
            Io::Unix(s) => s.async_io(wake, take).await,
        }
    }
}

struct State {
    io: Option<Io>,
    /// A name is looked up or a datagram is waited for.
    waiting: bool,
    read_ms: u32,
    peer: PeerName,
    trace: Trace,
    tie: Option<Box<dyn Any>>,
}

impl State {
    fn drop_connection(&mut self) {
        if self.io.take().is_some() {
            self.trace.text("lua finalize socket");
        }
        self.tie = None;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.drop_connection();
    }
}

/// A datagram cosocket. Clones are handles to the same one.
#[derive(Clone)]
pub struct Datagrams(Rc<RefCell<State>>);

/// A handle that does not keep the socket open.
pub struct WeakDatagrams(std::rc::Weak<RefCell<State>>);

impl WeakDatagrams {
    /// Closes the socket if there is still somebody who could use it.
    pub fn abandon(&self) {
        if let Some(state) = self.0.upgrade() {
            state.borrow_mut().drop_connection();
        }
    }
}

impl Datagrams {
    /// A socket without a peer.
    pub fn new(read_ms: u32, trace: Trace) -> Datagrams {
        let peer = PeerName::default();
        Datagrams(Rc::new(RefCell::new(State { io: None, waiting: false, read_ms, peer, trace, tie: None })))
    }

    /// A handle that does not keep it open.
    pub fn downgrade(&self) -> WeakDatagrams {
        WeakDatagrams(Rc::downgrade(&self.0))
    }

    /// Keeps `tie` until the socket is closed.
    pub fn set_tie(&self, tie: Box<dyn Any>) {
        self.0.borrow_mut().tie = Some(tie);
    }

    /// How long `receive` waits, in milliseconds.
    pub fn set_read_timeout(&self, ms: u32) {
        self.0.borrow_mut().read_ms = ms;
    }

    /// Sets where its debug lines go.
    pub fn set_trace(&self, trace: Trace) {
        self.0.borrow_mut().trace = trace;
    }

    /// Whom it leads to, for log lines.
    pub fn peer(&self) -> PeerName {
        self.0.borrow().peer.clone()
    }

    /// Whether it has a peer.
    pub fn is_connected(&self) -> bool {
        self.0.borrow().io.is_some()
    }

    /// `u:ADDRESS, c:ADDRESS`: what nginx tells about a socket that was used while closed.
    pub fn describe(&self) -> String {
        let st = self.0.borrow();
        let c = st.io.as_ref().map_or(0, |io| (&raw const *io) as usize);
        format!("u:{:016X}, c:{c:016X}", Rc::as_ptr(&self.0) as usize)
    }

    /// Whether the peer may be set now; a peer there before is forgotten.
    pub fn prepare_peer(&self) -> Result<(), SockError> {
        let mut st = self.0.borrow_mut();
        if st.waiting {
            return Err(SockError::Text("socket busy"));
        }
        if st.io.is_some() {
            st.trace.text("lua udp socket reconnect without shutting down");
        }
        st.drop_connection();
        Ok(())
    }

    /// Sets the peer; waits only for its name. To be called after `prepare_peer`.
    pub fn set_peer(&self, to: Target, host: &str, local: Option<SocketAddr>, names: &Names) -> SetPeer {
        let mut st = self.0.borrow_mut();
        st.waiting = true;
        let trace = st.trace.clone();
        st.peer = PeerName { host: host.to_owned(), port: 0, addr: String::new() };
        let step = match to {
            Target::Name(name, port) => {
                st.peer.port = port;
                Step::Resolving(names.lookup(&name, &trace), port)
            }
            other => {
                trace.text("lua udp socket network address given directly");
                Step::Ready(other)
            }
        };
        drop(st);
        SetPeer { sock: self.clone(), step, local, owns: true }
    }

    /// Sends one datagram.
    pub fn send(&self, data: &[u8]) -> Result<(), SockError> {
        let st = self.0.borrow();
        let sent = match &st.io {
            None => return Err(SockError::NotConnected),
            Some(_) if st.waiting => return Err(SockError::Text("socket busy")),
            Some(Io::Udp(s)) => s.try_send(data).or_else(|e| at_once(e, || s.as_send(data))),
            Some(Io::Unix(s)) => s.try_send(data).or_else(|e| at_once(e, || s.as_send(data))),
        };
        if let (Ok(n), Some(io)) = (&sent, &st.io) {
            st.trace.line(|| format!("send: fd:{} {n} of {}", io.descriptor(), data.len()));
        }
        match sent {
            Ok(n) if n == data.len() => Ok(()),
            Ok(_) => Err(SockError::Text("partial write")),
            Err(e) => Err(SockError::Io(e)),
        }
    }

    /// Receives one datagram, cut to `size` bytes.
    pub fn receive(&self, size: usize) -> ReceiveDatagram {
        let mut st = self.0.borrow_mut();
        let early = match &st.io {
            None => Some(SockError::NotConnected),
            Some(_) if st.waiting => Some(SockError::Text("socket busy")),
            Some(_) => None,
        };
        let owns = early.is_none();
        let (ms, size) = (st.read_ms, size.min(DATAGRAM_BYTES_MAX));
        if owns {
            st.waiting = true;
            st.trace.line(|| format!("lua udp socket read timeout: {ms}"));
            st.trace.line(|| format!("lua udp socket receive buffer size: {size}"));
        }
        drop(st);
        ReceiveDatagram { sock: self.clone(), size, early, work: None, timer: OpTimer::new(ms), owns }
    }

    /// Closes the socket.
    pub fn close(&self) -> Result<(), SockError> {
        let mut st = self.0.borrow_mut();
        if st.io.is_none() {
            return Err(SockError::NotConnected);
        }
        if st.waiting {
            return Err(SockError::Text("socket busy"));
        }
        st.drop_connection();
        Ok(())
    }
}

/// Sending on the system's socket itself.
trait AsSend {
    fn as_send(&self, data: &[u8]) -> io::Result<usize>;
}

impl AsSend for UdpSocket {
    fn as_send(&self, data: &[u8]) -> io::Result<usize> {
        SockRef::from(self).send(data)
    }
}

impl AsSend for UnixDatagram {
    fn as_send(&self, data: &[u8]) -> io::Result<usize> {
        SockRef::from(self).send(data)
    }
}

/// A new socket is not known to be writable before the event loop has seen it: then the system is asked.
fn at_once(e: io::Error, send: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
    if e.kind() == io::ErrorKind::WouldBlock { send() } else { Err(e) }
}

fn open_inet(to: SocketAddr, local: Option<SocketAddr>) -> Result<Io, SockError> {
    let fail = |call: Call| move |error| SockError::Connect { call, error };
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).map_err(fail(Call::Connect))?;
    socket.set_nonblocking(true).map_err(fail(Call::Connect))?;
    if let Some(local) = local {
        let call = Call::Bind(local.ip().to_string());
        socket.bind(&local.into()).map_err(fail(call))?;
    }
    socket.connect(&to.into()).map_err(fail(Call::Connect))?;
    UdpSocket::from_std(socket.into()).map(|s| Io::Udp(Rc::new(s))).map_err(fail(Call::Connect))
}

fn open_unix(path: &Path) -> Result<Io, SockError> {
    let fail = |error| SockError::Connect { call: Call::Connect, error };
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None).map_err(fail)?;
    socket.set_nonblocking(true).map_err(fail)?;
    // An address of no length: the system gives it a name, so that the peer can answer.
    socket.bind(&socket2::SockAddr::unix("").map_err(fail)?).map_err(fail)?;
    socket.connect(&socket2::SockAddr::unix(path).map_err(fail)?).map_err(fail)?;
    UnixDatagram::from_std(socket.into()).map(|s| Io::Unix(Rc::new(s))).map_err(fail)
}

enum Step {
    Ready(Target),
    Resolving(Lookup, u16),
}

/// A peer being set.
pub struct SetPeer {
    sock: Datagrams,
    step: Step,
    local: Option<SocketAddr>,
    owns: bool,
}

impl SetPeer {
    fn release(&mut self) {
        if std::mem::take(&mut self.owns) {
            self.sock.0.borrow_mut().waiting = false;
        }
    }

    fn open(&self, to: &Target) -> Result<(), SockError> {
        let mut st = self.sock.0.borrow_mut();
        let opened = match to {
            Target::Addr(addr) => {
                st.peer.port = addr.port();
                st.peer.addr = addr.ip().to_string();
                open_inet(*addr, self.local)
            }
            Target::Unix(path) => {
                st.peer.addr = format!("unix:{}", path.display());
                open_unix(path)
            }
            Target::Name(..) => Err(SockError::Text("resolver not working")),
        };
        st.trace.line(|| format!("lua udp socket connect: {}", if opened.is_ok() { 0 } else { -1 }));
        st.io = Some(opened?);
        Ok(())
    }
}

impl Future for SetPeer {
    type Output = Result<(), SockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        if let Step::Resolving(lookup, port) = &mut me.step {
            let port = *port;
            match Pin::new(lookup).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(text)) => {
                    me.release();
                    return Poll::Ready(Err(SockError::Resolve(text)));
                }
                Poll::Ready(Ok(found)) => {
                    let first = found.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
                    me.sock.0.borrow().trace.line(|| format!("name was resolved to {first}"));
                    me.step = Step::Ready(Target::Addr(SocketAddr::new(first, port)));
                }
            }
        }
        let r = match &me.step {
            Step::Ready(to) => me.open(to),
            Step::Resolving(..) => Err(SockError::Text("resolver not working")),
        };
        me.release();
        Poll::Ready(r)
    }
}

impl Drop for SetPeer {
    fn drop(&mut self) {
        self.release();
    }
}

/// A datagram being waited for.
pub struct ReceiveDatagram {
    sock: Datagrams,
    size: usize,
    early: Option<SockError>,
    work: Option<Pin<Box<dyn Future<Output = io::Result<Vec<u8>>>>>>,
    timer: OpTimer,
    owns: bool,
}

impl ReceiveDatagram {
    fn release(&mut self) {
        if std::mem::take(&mut self.owns) {
            self.sock.0.borrow_mut().waiting = false;
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, SockError>> {
        if let Some(e) = self.early.take() {
            return Poll::Ready(Err(e));
        }
        if self.work.is_none() {
            let st = self.sock.0.borrow();
            let Some(io) = st.io.clone() else { return Poll::Ready(Err(SockError::Closed)) };
            self.work = Some(Box::pin(io.receive(self.size)));
        }
        if let Some(work) = &mut self.work
            && let Poll::Ready(r) = work.as_mut().poll(cx)
        {
            return Poll::Ready(r.map_err(SockError::Io));
        }
        if self.timer.poll(cx) { Poll::Ready(Err(SockError::Timeout)) } else { Poll::Pending }
    }
}

impl Future for ReceiveDatagram {
    type Output = Result<Vec<u8>, SockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let r = self.run(cx);
        if r.is_ready() {
            self.release();
        }
        r
    }
}

impl Drop for ReceiveDatagram {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;

    async fn to(s: &Datagrams, target: Target) -> Result<(), SockError> {
        s.prepare_peer()?;
        s.set_peer(target, "h", None, &Names::None).await
    }

    #[test]
    fn datagrams_go_there_and_back_and_are_cut() {
        run(async {
            let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let s = Datagrams::new(50, Trace::default());
            assert_eq!(s.send(b"x").unwrap_err().text(), "closed");
            to(&s, Target::Addr(echo.local_addr().unwrap())).await.unwrap();
            s.send(b"hello").unwrap();
            let mut buf = [0u8; 16];
            let (n, from) = echo.recv_from(&mut buf).await.unwrap();
            echo.send_to(&buf[..n], from).await.unwrap();
            assert_eq!(s.receive(3).await.unwrap(), b"hel");
            let waiting = s.receive(3);
            assert_eq!(s.receive(3).await.unwrap_err().text(), "socket busy");
            assert_eq!(waiting.await.unwrap_err().text(), "timeout");
            assert_eq!(
                s.peer().suffix(),
                format!(", upstream: h:{}(127.0.0.1)", echo.local_addr().unwrap().port())
            );
            s.close().unwrap();
            assert_eq!(s.close().unwrap_err().text(), "closed");
        });
    }

    #[test]
    fn unix_datagrams_are_answered() {
        run(async {
            let path = std::env::temp_dir().join(format!("moonlit-dgram-{}.sock", std::process::id()));
            let echo = UnixDatagram::bind(&path).unwrap();
            let s = Datagrams::new(50, Trace::default());
            to(&s, Target::Unix(path.clone())).await.unwrap();
            s.send(b"hello").unwrap();
            let mut buf = [0u8; 16];
            let (n, from) = echo.recv_from(&mut buf).await.unwrap();
            let from: std::os::unix::net::SocketAddr = from.into();
            let std_echo = echo.into_std().unwrap();
            std_echo.send_to_addr(&buf[..n], &from).unwrap();
            assert_eq!(s.receive(100).await.unwrap(), b"hello");
            std::fs::remove_file(&path).unwrap();
            assert_eq!(to(&s, Target::Unix(path)).await.unwrap_err().text(), "no such file or directory");
        });
    }
}
