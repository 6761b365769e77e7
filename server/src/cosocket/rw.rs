//! `send` and `receive` in every form, as futures over a socket.
//!
//! Time limits run between two reads or writes, not over a whole operation.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWrite};

use super::buffer::{Buffer, Until, UntilStep};
use super::error::{ReadError, SockError};
use super::stream::{descriptor, on_socket};
use super::tcp::{OpTimer, Socket, State};

/// Most bytes that one `receive` gathers: the longest text a script can have.
const RECEIVE_BYTES_MAX: usize = 0x7fff_ff00;
/// Largest read asked for at once when the caller said how much it wants.
const READ_BYTES_MAX: usize = 256 * 1024;

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

impl Socket {
    /// Whether a send may begin.
    pub fn may_write(&self) -> Result<(), SockError> {
        let st = self.0.borrow();
        match &st.io {
            None if st.dialing => Err(SockError::Busy("connecting")),
            None => Err(SockError::NotConnected),
            Some(_) if st.write_closed => Err(SockError::NotConnected),
            Some(_) if st.writing => Err(SockError::Busy("writing")),
            Some(_) => Ok(()),
        }
    }

    /// Whether a read may begin.
    pub fn may_read(&self) -> Result<(), SockError> {
        let st = self.0.borrow();
        match &st.io {
            None if st.dialing => Err(SockError::Busy("connecting")),
            None => Err(SockError::NotConnected),
            Some(_) if st.read_closed => Err(SockError::NotConnected),
            Some(_) if st.reading => Err(SockError::Busy("reading")),
            Some(_) => Ok(()),
        }
    }

    /// Sends bytes.
    pub fn send(&self, data: Vec<u8>) -> Send {
        let early = self.may_write().err();
        let mut st = self.0.borrow_mut();
        let owns = early.is_none();
        st.writing |= owns;
        let ms = st.timeouts.send_ms;
        if owns {
            st.trace.line(|| format!("lua tcp socket send timeout: {ms}"));
        }
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
        let early = self.may_read().err();
        let mut st = self.0.borrow_mut();
        let owns = early.is_none();
        st.reading |= owns;
        let ms = st.timeouts.read_ms;
        if owns {
            st.trace.line(|| format!("lua tcp socket read timeout: {ms}"));
        }
        drop(st);
        Receive { sock: self.clone(), want, early, timer: OpTimer::new(ms), owns }
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
        // A socket that cannot do it sends all the same.
        if std::mem::take(&mut st.nodelay_due) && on_socket(&**io, |s| s.set_tcp_nodelay(true)).is_some() {
            st.trace.text("lua socket tcp_nodelay");
        }
        while me.at < me.data.len() {
            match Pin::new(&mut *io).poll_write(cx, &me.data[me.at..]) {
                Poll::Ready(Ok(0)) => {
                    st.write_closed = true;
                    return Poll::Ready(Err(SockError::Closed));
                }
                Poll::Ready(Ok(n)) => {
                    let left = me.data.len() - me.at;
                    st.trace.line(|| format!("send: fd:{} {n} of {left}", descriptor(&**io)));
                    me.at += n;
                    me.timer.rearm(st.timeouts.send_ms);
                }
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
            Poll::Ready(Ok(())) => Poll::Ready(Ok(me.data.len())),
            // Encrypted bytes that have not gone out yet.
            Poll::Pending if me.timer.poll(cx) => {
                st.write_closed = true;
                Poll::Ready(Err(SockError::Timeout))
            }
            Poll::Pending => Poll::Pending,
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

impl Want {
    /// What the buffer already answers; `None` when more has to be read.
    fn look(&mut self, buf: &mut Buffer) -> Option<Vec<u8>> {
        match self {
            Want::Pattern(Pattern::Line) => {
                let end = memchr::memchr(b'\n', buf.filled())?;
                let mut line = buf.take(end + 1);
                line.pop();
                drop_returns(&mut line);
                Some(line)
            }
            Want::Pattern(Pattern::All) => None,
            Want::Pattern(Pattern::Bytes(n)) => (buf.len() >= *n).then(|| buf.take(*n)),
            Want::Pattern(Pattern::Any(max)) => (!buf.is_empty()).then(|| buf.take(buf.len().min(*max))),
            Want::Until { until, size, clean } => {
                match until.borrow_mut().step(buf.filled(), *clean, *size) {
                    UntilStep::Found { data, drop, .. } => {
                        let out = buf.take(data);
                        buf.skip(drop);
                        *clean = 0;
                        Some(out)
                    }
                    UntilStep::More { clean: c } => {
                        *clean = c;
                        None
                    }
                }
            }
        }
    }

    /// What nginx's debug lines call a look at the buffer.
    fn trace_name(&self) -> &'static str {
        match self {
            Want::Pattern(Pattern::Line) => "lua tcp socket read line",
            Want::Pattern(Pattern::All) => "lua tcp socket read all",
            Want::Pattern(Pattern::Bytes(_)) => "lua tcp socket read chunk",
            Want::Pattern(Pattern::Any(_)) => "lua tcp socket read any",
            Want::Until { .. } => "lua tcp socket read until",
        }
    }

    /// Bytes to be asked for in one read, where `usual` is what the configuration says.
    fn read_size(&self, have: usize, usual: usize) -> usize {
        let most = READ_BYTES_MAX.max(usual);
        match self {
            Want::Pattern(Pattern::Bytes(n)) => (n - have.min(*n)).clamp(usual, most),
            Want::Pattern(Pattern::All) => have.clamp(usual, most),
            _ => usual,
        }
    }

    /// What a read that fails gives back. Bytes that may begin the pattern stay for the next one.
    fn partial(&self, buf: &mut Buffer) -> Vec<u8> {
        let n = match self {
            Want::Until { until, .. } => until.borrow().settled(buf.filled()),
            Want::Pattern(_) => buf.len(),
        };
        let mut data = buf.take(n);
        if matches!(self, Want::Pattern(Pattern::Line)) {
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

/// A read under way.
pub struct Receive {
    sock: Socket,
    want: Want,
    early: Option<SockError>,
    timer: OpTimer,
    owns: bool,
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
        if let Some(error) = self.early.take() {
            return Poll::Ready(Err(ReadError { error, partial: Vec::new() }));
        }
        if let Want::Until { until, .. } = &self.want
            && until.borrow_mut().take_ended()
        {
            return Poll::Ready(Ok(None));
        }
        let sock = self.sock.clone();
        let mut st = sock.0.borrow_mut();
        let st = &mut *st;
        loop {
            if !st.buf.is_empty() || st.eof {
                st.trace.text(self.want.trace_name());
            }
            if let Some(out) = self.want.look(&mut st.buf) {
                return Poll::Ready(Ok(Some(out)));
            }
            if st.eof {
                return Poll::Ready(self.at_end(st));
            }
            if st.buf.len() > RECEIVE_BYTES_MAX {
                st.read_closed = true;
                let error = SockError::Text("no memory");
                return Poll::Ready(Err(ReadError { error, partial: Vec::new() }));
            }
            match read_some(st, cx, self.want.read_size(st.buf.len(), st.buffer_bytes)) {
                Poll::Ready(Ok(0)) => {
                    st.eof = true;
                    st.trace.text("lua tcp socket closed");
                    if let Some(error) = st.io.as_ref().and_then(|io| io.end_error()) {
                        st.read_closed = true;
                        let partial = self.want.partial(&mut st.buf);
                        return Poll::Ready(Err(ReadError { error, partial }));
                    }
                }
                Poll::Ready(Ok(_)) => self.timer.rearm(st.timeouts.read_ms),
                Poll::Ready(Err(error)) => {
                    st.read_closed = true;
                    let partial = self.want.partial(&mut st.buf);
                    return Poll::Ready(Err(ReadError { error, partial }));
                }
                Poll::Pending => {
                    if self.timer.poll(cx) {
                        let partial = self.want.partial(&mut st.buf);
                        return Poll::Ready(Err(ReadError { error: SockError::Timeout, partial }));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// What a read gives whose stream has ended.
    fn at_end(&self, st: &mut State) -> Result<Option<Vec<u8>>, ReadError> {
        let partial = self.want.partial(&mut st.buf);
        if matches!(self.want, Want::Pattern(Pattern::All)) {
            return Ok(Some(partial));
        }
        st.read_closed = true;
        Err(ReadError { error: SockError::Closed, partial })
    }
}

/// Reads once into the socket's buffer. Ready with the number of bytes; 0 is the end.
fn read_some(st: &mut State, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, SockError>> {
    let Some(io) = st.io.as_mut() else { return Poll::Ready(Err(SockError::Closed)) };
    let mut space = st.buf.room(room);
    // The future holds nothing between two polls: dropped while it waits, it loses nothing.
    let got = std::pin::pin!(io.read_buf(&mut space)).poll(cx);
    if let Poll::Ready(Ok(n)) = &got {
        st.trace.line(|| format!("recv: fd:{} {n} of {room}", descriptor(&**io)));
    }
    got.map_err(SockError::Io)
}

impl Drop for Receive {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tcp::Timeouts;
    use super::super::trace::Trace;
    use super::*;
    use crate::testing::run;
    use tokio::io::AsyncWriteExt;

    fn over(io: tokio::io::DuplexStream) -> Socket {
        let t = Timeouts { connect_ms: 50, send_ms: 50, read_ms: 50 };
        Socket::over(Box::new(io), t, Trace::default(), true)
    }

    fn pair() -> (Socket, tokio::io::DuplexStream) {
        let (a, b) = tokio::io::duplex(1 << 16);
        (over(a), b)
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
    fn time_limit_begins_anew_with_every_byte() {
        run(async {
            let (s, mut peer) = pair();
            let slow = async {
                for _ in 0..4 {
                    tokio::time::sleep(std::time::Duration::from_millis(25)).await;
                    peer.write_all(b"x").await.unwrap();
                }
            };
            let (got, ()) = tokio::join!(s.receive(Pattern::Bytes(4)), slow);
            assert_eq!(got.unwrap().unwrap(), b"xxxx");
            // A limit set meanwhile holds from the next byte on.
            let slow = async {
                s.set_timeouts(Timeouts { read_ms: 5, ..s.timeouts() });
                peer.write_all(b"y").await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
                peer.write_all(b"z").await.unwrap();
            };
            let (got, ()) = tokio::join!(s.receive(Pattern::Bytes(2)), slow);
            assert_eq!(got.unwrap_err().partial, b"y");
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
            assert!(matches!(s.receive(Pattern::Line).await.unwrap_err().error, SockError::NotConnected));
            let (s, mut peer) = pair();
            peer.write_all(b"all of it").await.unwrap();
            drop(peer);
            assert_eq!(s.receive(Pattern::All).await.unwrap().unwrap(), b"all of it");
            assert_eq!(s.receive(Pattern::All).await.unwrap().unwrap(), b"");
            assert!(matches!(s.receive(Pattern::Line).await.unwrap_err().error, SockError::Closed));
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
                peer.write_all(b"-two--x-").await.unwrap();
            };
            let (got, ()) = tokio::join!(read, write);
            assert_eq!(got.unwrap().unwrap(), b"one");
            assert_eq!(s.receive_until(&u, None).await.unwrap().unwrap(), b"two");
            let e = s.receive_until(&u, None).await.unwrap_err();
            assert_eq!((e.error.text().as_str(), &e.partial[..]), ("timeout", &b"x"[..]));
            peer.write_all(b"-y").await.unwrap();
            assert_eq!(s.receive_until(&u, None).await.unwrap().unwrap(), b"");
            drop(peer);
            let e = s.receive_until(&u, None).await.unwrap_err();
            assert_eq!((e.error.text().as_str(), &e.partial[..]), ("closed", &b"y"[..]));
        });
    }

    #[test]
    fn send_waits_for_room_and_times_out() {
        run(async {
            let (a, mut b) = tokio::io::duplex(4);
            let s = over(a);
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
}
