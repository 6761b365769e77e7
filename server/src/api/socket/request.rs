//! `ngx.req.socket`: the client's connection as a socket, for the body alone or as a whole.

use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Vm};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::owner::{Owner, tie_stream};
use super::tcp::{Handle, object};
use super::{Kind, configured_timeouts, raise, trace};
use crate::api::{self, ApiFn};
use crate::cosocket::error::SockError;
use crate::cosocket::stream::Stream;
use crate::cosocket::tcp::Socket;
use crate::http1::body::Decoder;
use crate::http1::conn::Raw;
use crate::lua::args::fail;
use crate::phase::Phases;
use crate::request::Request;
use crate::request::body::Body;
use crate::request::response::HeadState;

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::plain("ngx.req.socket", Phases::OUTPUT, socket)];

/// `ngx.req.socket(raw?)`: a socket to read the request's body from; with `true` the whole connection, to
/// be read and written.
///
/// Returns the socket, or nil and `no body`, `request body already exists`, `request body discarded`,
/// `chunked request bodies not supported yet`, `pending request body reading in some other thread`,
/// `pending data to write`, `http 1.0 buffering`, `duplicate call`. Raises `attempt to read the request
/// body in a subrequest`. Its reads yield.
fn socket(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.nargs();
    if n > 1 {
        return Err(raise(vm, &format!("expecting 0 or 1 argument, but got {n}")));
    }
    let raw = n == 1 && vm.arg(0).truthy();
    let req = api::request(vm)?;
    if !req.is_main() {
        return Err(raise(vm, "attempt to read the request body in a subrequest"));
    }
    let taken = if raw { take_connection(&req) } else { take_body(&req) };
    if let Err(text) = taken {
        return fail(vm, text);
    }
    let aborts = req.location().lua_check_client_abort;
    let kind = if raw { Kind::Raw } else { Kind::Body };
    let io: Box<dyn Stream> = if raw {
        Box::new(Whole { io: Raw(req.conn.clone()), aborts })
    } else {
        Box::new(BodyBytes { io: Raw(req.conn.clone()), req: Rc::downgrade(&req) })
    };
    let nodelay = raw && req.location().tcp_nodelay;
    let socket = Socket::over(io, configured_timeouts(), trace(), nodelay);
    socket.set_buffer_size(req.location().lua_socket_buffer_size as usize);
    tie_stream(&socket);
    let s = object(vm, kind, Handle::new(socket, Owner::current()));
    Ok(Outcome::one(s))
}

/// Nobody else may read the body from now on.
fn take_body(req: &Rc<Request>) -> Result<(), &'static str> {
    let mut incoming = req.incoming.borrow_mut();
    if matches!(incoming.decoder, Some(Decoder::Chunked(_))) {
        return Err("chunked request bodies not supported yet");
    }
    let mut body = req.body.borrow_mut();
    match &*body {
        Body::Unread => {}
        Body::Discarded => return Err("request body discarded"),
        _ => return Err("request body already exists"),
    }
    if incoming.decoder.is_none() {
        return Err("no body");
    }
    if std::mem::take(&mut incoming.expects_continue) {
        req.conn.write_with(|o| o.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // What does not go out now goes out before the first read waits.
        let _ = req.conn.poll_flush(&mut cx);
    }
    *body = Body::Taken;
    Ok(())
}

/// Nobody else may use the connection from now on.
fn take_connection(req: &Rc<Request>) -> Result<(), &'static str> {
    if matches!(*req.body.borrow(), Body::Reading) {
        return Err("pending request body reading in some other thread");
    }
    let mut res = req.response.borrow_mut();
    if res.taken {
        return Err("duplicate call");
    }
    if req.conn.output_len() > 0 {
        // What waits for more may go now.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = req.conn.poll_flush(&mut cx);
    }
    if req.conn.output_len() > 0 || !res.is_quiet() {
        return Err("pending data to write");
    }
    if res.gathering {
        return Err("http 1.0 buffering");
    }
    res.head = HeadState::Sent;
    res.eof = true;
    res.taken = true;
    drop(res);
    req.keepalive.set(false);
    let mut body = req.body.borrow_mut();
    if matches!(*body, Body::Unread) {
        *body = Body::Taken;
    }
    Ok(())
}

/// The whole connection.
struct Whole {
    io: Raw,
    aborts: bool,
}

impl AsyncRead for Whole {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl AsyncWrite for Whole {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Stream for Whole {
    fn with_socket(&self, f: &mut dyn FnMut(socket2::SockRef<'_>)) -> bool {
        self.io.0.with_socket(f).is_some()
    }

    fn end_error(&self) -> Option<SockError> {
        self.aborts.then_some(SockError::Text("client aborted"))
    }
}

/// The bytes of the body. Scripts may keep the socket: it must not keep the request.
struct BodyBytes {
    io: Raw,
    req: Weak<Request>,
}

impl BodyBytes {
    fn left(&self) -> u64 {
        let Some(req) = self.req.upgrade() else { return 0 };
        match &req.incoming.borrow().decoder {
            Some(Decoder::Length(n)) => *n,
            _ => 0,
        }
    }
}

impl AsyncRead for BodyBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let left = usize::try_from(me.left()).unwrap_or(usize::MAX);
        if left == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(req) = me.req.upgrade() else { return Poll::Ready(Ok(())) };
        if req.conn.output_len() > 0 {
            // The client may wait for what is in the output before it sends more.
            let _ = req.conn.poll_flush(cx);
        }
        let room = left.min(out.remaining());
        let mut part = ReadBuf::new(out.initialize_unfilled_to(room));
        let polled = Pin::new(&mut me.io).poll_read(cx, &mut part);
        let n = part.filled().len();
        if n > 0 {
            let mut incoming = req.incoming.borrow_mut();
            if let Some(Decoder::Length(rest)) = &mut incoming.decoder {
                *rest -= n as u64;
            }
            incoming.received += n as u64;
            drop(incoming);
            out.advance(n);
        }
        polled
    }
}

impl AsyncWrite for BodyBytes {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stream for BodyBytes {
    fn with_socket(&self, f: &mut dyn FnMut(socket2::SockRef<'_>)) -> bool {
        self.io.0.with_socket(f).is_some()
    }

    fn end_error(&self) -> Option<SockError> {
        (self.left() > 0).then_some(SockError::Text("client aborted"))
    }
}
