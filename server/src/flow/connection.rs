//! A client connection from accept to close: requests one after the other.
//!
//! While it waits for a request it holds no buffer and no request: the busy
//! part lives in a box that is taken when bytes arrive and given back afterwards.
//! Both parts are tables of steps, not `async` functions: a future that holds a
//! whole request would be moved about for each of them.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::begin::{default_of, limits_of, make_request};
use super::engine::{self, Course};
use super::filters::poll_drive;
use super::{Wait, Worker, handshake};
use crate::conf::model::{Level, Listen, ListenAddr, Server};
use crate::conf::settings::LingeringClose;
use crate::http1::clock;
use crate::http1::conn::Conn;
use crate::http1::parse::{Head, HeadError};
use crate::http1::proxy_protocol::{self, ProxyProtocol, Seen};
use crate::request::body::discard;
use crate::request::{Request, Stat, postpone};

/// Busy parts that a worker keeps.
const KEPT_MAX: usize = 64;
/// How long a stopping worker waits for a request that may be on its way on an idle connection. It is
/// answered with `Connection: close`; closing at once would lose it.
const DRAIN_MS: u64 = 1000;

thread_local! {
    static BUSY: RefCell<Vec<Box<Busy>>> = const { RefCell::new(Vec::new()) };
}

/// A connection being served. Ready when it is closed.
pub struct Serving {
    w: Rc<Worker>,
    conn: Rc<Conn>,
    /// Index of the listen entry it belongs to.
    listen: usize,
    busy: Option<Box<Busy>>,
    /// The worker stops, and the connection knows.
    draining: bool,
    /// A proxy's header precedes the first request.
    proxied: bool,
    /// A handshake precedes it.
    secure: bool,
    /// That handshake.
    handshake: Option<Wait<Result<(), String>>>,
}

/// Serves a connection to its end. `listen` is the index of the listen entry it belongs to. When the worker
/// stops, whoever stops it wakes what has a deadline: idle connections are among it.
pub fn serve(w: Rc<Worker>, conn: Rc<Conn>, listen: usize) -> Serving {
    let stats = &w.env.stats;
    stats.add(Stat::Accepted, 1);
    stats.add(Stat::Active, 1);
    let http = w.env.http();
    conn.arm(http.servers[http.listens[listen].default_server].client_header_timeout);
    let options = w.env.config.listen_of(listen, conn.local).map(|l| &l.options);
    let (proxied, secure) = options.map_or((false, false), |o| (o.proxy_protocol, o.ssl));
    Serving { w, conn, listen, busy: None, draining: false, proxied, secure, handshake: None }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.w.env.stats.add(Stat::Active, -1);
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        clock::update();
        loop {
            let Some(busy) = &mut me.busy else {
                if me.handshake.is_some() {
                    match me.poll_handshake(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(false) => return Poll::Ready(()),
                        Poll::Ready(true) => {}
                    }
                }
                match me.poll_idle(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Ready(true) if me.secure && me.begins_handshake() => {}
                    Poll::Ready(true) => me.busy = Some(take_busy()),
                }
                continue;
            };
            match busy.poll(&me.w, &me.conn, me.listen, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Rest::Close) => return Poll::Ready(()),
                Poll::Ready(Rest::Idle(ms)) => {
                    me.busy.take().into_iter().for_each(give_busy);
                    me.conn.arm(ms);
                }
            }
        }
    }
}

impl Serving {
    /// Waits for the first byte of a request. False when the time is over, the client is gone or the worker
    /// stops and nothing comes.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let conn = &self.conn;
        if self.w.env.exiting.get() && !self.draining {
            self.draining = true;
            conn.arm(DRAIN_MS);
        }
        let mut filled = conn.poll_fill(cx);
        while self.proxied && matches!(filled, Poll::Ready(Ok(1..))) {
            match conn.with_input(read_proxied) {
                Ok(None) => {}
                Ok(Some(said)) => {
                    self.proxied = false;
                    said.into_iter().for_each(|p| _ = conn.proxied.set(Box::new(p)));
                    if conn.input_len() > 0 {
                        return Poll::Ready(true);
                    }
                }
                Err(text) => {
                    self.tell_of_proxy(text);
                    return Poll::Ready(false);
                }
            }
            filled = conn.poll_fill(cx);
        }
        match filled {
            Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(true),
            Poll::Ready(Ok(_)) => {
                self.tell("client closed connection");
                Poll::Ready(false)
            }
            Poll::Ready(Err(_)) => Poll::Ready(false),
            Poll::Pending => {
                conn.release_buffers();
                if !conn.poll_deadline(cx) {
                    return Poll::Pending;
                }
                if conn.requests.get() == 0 && !self.w.env.exiting.get() {
                    self.tell(TIMED_OUT);
                }
                Poll::Ready(false)
            }
        }
    }
}

impl Serving {
    /// Looks once whether the client speaks TLS, and begins to shake hands then. Otherwise its request is read as it is.
    fn begins_handshake(&mut self) -> bool {
        self.secure = false;
        let begins = self.conn.with_input(|b| (b.first().is_some_and(|first| handshake::begins(*first)), 0));
        if begins {
            self.handshake = Some(Box::pin(handshake::shake(self.w.clone(), self.conn.clone(), self.listen)));
        }
        begins
    }

    /// True when the handshake is through.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(shaking) = &mut self.handshake else { return Poll::Ready(true) };
        match shaking.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => {
                self.handshake = None;
                let http = self.w.env.http();
                let of = |l| http.servers[default_of(&self.conn, l)].client_header_timeout;
                self.conn.arm(of(self.listening()));
                Poll::Ready(true)
            }
            Poll::Ready(Err(text)) => {
                self.tell(&text);
                Poll::Ready(false)
            }
            Poll::Pending if self.conn.poll_deadline(cx) => {
                self.tell(TIMED_OUT);
                Poll::Ready(false)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The listen entry that it belongs to.
    fn listening(&self) -> &Listen {
        let (w, at) = (&self.w, self.listen);
        w.env.config.listen_of(at, self.conn.local).unwrap_or(&w.env.http().listens[at])
    }

    /// nginx's line for a client that leaves, or says nothing, before its first request or between two.
    fn tell(&self, what: &str) {
        self.log(Level::Info, |who, listen| {
            if self.conn.requests.get() > 0 {
                return format!("client {who} closed keepalive connection").into_bytes();
            }
            let doing = match (self.proxied, self.secure || self.handshake.is_some()) {
                (true, _) => "reading PROXY protocol",
                (_, true) => "SSL handshaking",
                _ => "waiting for request",
            };
            format!("{what} while {doing}, client: {who}, server: {listen}").into_bytes()
        });
    }

    /// nginx's line for a wrong header of a proxy.
    fn tell_of_proxy(&self, text: Vec<u8>) {
        self.log(Level::Error, |who, listen| {
            let rest = format!(" while reading PROXY protocol, client: {who}, server: {listen}");
            [&text, rest.as_bytes()].concat()
        });
    }

    /// Logs a line that is made from the client's address and the listening one.
    fn log(&self, level: Level, line: impl FnOnce(&str, &ListenAddr) -> Vec<u8>) {
        let (w, conn) = (&self.w, &self.conn);
        let listen = self.listening();
        let logs = &w.env.http().servers[default_of(conn, listen)].level.error_logs;
        if !w.env.logs.enabled(logs, level) {
            return;
        }
        let who = conn.peer.map_or_else(|| "unix:".to_owned(), |peer| peer.ip().to_canonical().to_string());
        w.env.logs.error(logs, level, Some(conn.serial), &line(&who, &listen.addr));
    }
}

/// What a proxy says of a client: nothing, when it speaks for itself.
type Said = Option<ProxyProtocol>;

/// What a proxy says ahead of the client, if it is all there, and the bytes that it took. Its error is a text for the
/// log.
fn read_proxied(input: &[u8]) -> (Result<Option<Said>, Vec<u8>>, usize) {
    match proxy_protocol::read(input) {
        Seen::Part => (Ok(None), 0),
        Seen::Header(said, len) => (Ok(Some(said)), len),
        Seen::Broken(text) => (Err(text), 0),
    }
}

/// What the busy part of a connection ended with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// The connection waits for its next request, at most that long.
    Idle(u64),
    /// It is closed.
    Close,
}

/// What a busy connection is at.
enum Step {
    /// Reading a head. True once a part of it is there.
    Reading(bool),
    /// Its request is handled.
    Handling(Rc<Request>),
    /// The response is out; what is left of the body is thrown away. Ready with false when the connection
    /// cannot be used again.
    Discarding(Rc<Request>, Wait<bool>),
    /// It ends when the client has seen the response.
    Lingering(Wait<()>),
}

/// The busy part of a connection.
struct Busy {
    step: Step,
    head: Head,
    course: Course,
    /// The head was no good.
    broken: bool,
}

fn take_busy() -> Box<Busy> {
    BUSY.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
        let (step, course) = (Step::Reading(false), Course::new(None));
        Box::new(Busy { step, head: Head::default(), course, broken: false })
    })
}

/// Only what has come to the end of a request comes back.
fn give_busy(mut busy: Box<Busy>) {
    busy.step = Step::Reading(false);
    busy.head.reset();
    BUSY.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX {
            kept.push(busy);
        }
    });
}

impl Busy {
    fn poll(&mut self, w: &Rc<Worker>, conn: &Rc<Conn>, listen: usize, cx: &mut Context<'_>) -> Poll<Rest> {
        let stats = &w.env.stats;
        loop {
            match &mut self.step {
                Step::Reading(begun) => {
                    let http = w.env.http();
                    let local = w.env.config.listen_of(listen, conn.local).unwrap_or(&http.listens[listen]);
                    let default = &http.servers[default_of(conn, local)];
                    let was_reading = *begun;
                    let Poll::Ready(read) = poll_head(conn, default, &mut self.head, begun, cx) else {
                        if !was_reading {
                            stats.add(Stat::Reading, 1);
                        }
                        return Poll::Pending;
                    };
                    if *begun {
                        conn.disarm();
                    }
                    if was_reading {
                        stats.add(Stat::Reading, -1);
                    }
                    let parsed = match read {
                        Ok(true) => Ok(()),
                        Ok(false) => return Poll::Ready(Rest::Close),
                        Err(e) => Err(e),
                    };
                    self.broken = parsed.is_err();
                    let (req, status) = make_request(w, conn, local, &mut self.head, parsed);
                    stats.add(Stat::Requests, 1);
                    stats.add(Stat::Writing, 1);
                    self.course = Course::new(status);
                    self.step = Step::Handling(req);
                }
                Step::Handling(req) => {
                    if poll_drive(w, req, &mut self.course, cx).is_pending() {
                        return Poll::Pending;
                    }
                    let req = req.clone();
                    if req.keepalive.get() && !req.incoming.borrow().is_done() {
                        let r = req.clone();
                        let rest = Box::pin(async move { discard(&r).await });
                        self.step = Step::Discarding(req, rest);
                        continue;
                    }
                    if let Some(rest) = self.end(w, conn, req, cx) {
                        return Poll::Ready(rest);
                    }
                }
                Step::Discarding(req, rest) => {
                    let Poll::Ready(usable) = rest.as_mut().poll(cx) else { return Poll::Pending };
                    if !usable {
                        req.keepalive.set(false);
                    }
                    let req = req.clone();
                    if let Some(rest) = self.end(w, conn, req, cx) {
                        return Poll::Ready(rest);
                    }
                }
                Step::Lingering(wait) => return wait.as_mut().poll(cx).map(|()| Rest::Close),
            }
        }
    }

    /// The request is over: it is logged, and the connection goes on, lingers or ends.
    fn end(
        &mut self,
        w: &Rc<Worker>,
        conn: &Rc<Conn>,
        req: Rc<Request>,
        cx: &mut Context<'_>,
    ) -> Option<Rest> {
        self.step = Step::Reading(false);
        self.head.reset();
        postpone::clear(&req);
        conn.throttle(0, 0);
        let stats = &w.env.stats;
        stats.add(Stat::Writing, -1);
        let broken = req.gone.get() || conn.is_broken();
        let keep = req.keepalive.get() && !broken;
        let (idle_ms, lingering, linger_ms, linger_timeout_ms) = {
            let level = req.location();
            let idle_ms = level.keepalive_timeout.timeout_ms;
            (idle_ms, level.lingering_close, level.lingering_time, level.lingering_timeout)
        };
        let unread = !req.incoming.borrow().is_done() || self.broken;
        log(w, req, cx);
        if keep {
            conn.pipelined.set(conn.input_len() > 0);
            if conn.input_len() == 0 {
                return Some(Rest::Idle(idle_ms));
            }
            // The next one is there already.
            clock::update();
            return None;
        }
        let unread = unread
            || conn.input_len() > 0
            || (!broken && conn.poll_readable(cx).is_ready() && !conn.at_eof());
        if broken || lingering == LingeringClose::Off || (lingering == LingeringClose::On && !unread) {
            return Some(Rest::Close);
        }
        let conn = conn.clone();
        let wait = Box::pin(async move { linger_and_close(&conn, linger_ms, linger_timeout_ms).await });
        self.step = Step::Lingering(wait);
        None
    }
}

/// The log phase. A script in it that waits holds nobody up.
fn log(w: &Rc<Worker>, req: Rc<Request>, cx: &mut Context<'_>) {
    if let Some(mut script) = engine::log_script(w, &req)
        && script.as_mut().poll(cx).is_pending()
    {
        tokio::task::spawn_local(async move {
            script.await;
            engine::write_logs(&req);
        });
        return;
    }
    engine::write_logs(&req);
    w.spare.give(req);
}

/// Reads until a head is complete. `Ok(false)` when there is none: the connection ended. `begun` becomes true
/// when a part of it is there.
fn poll_head(
    conn: &Rc<Conn>,
    server: &Server,
    head: &mut Head,
    begun: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<bool, HeadError>> {
    let limits = limits_of(server);
    loop {
        match conn.with_input(|b| (head.parse(b, &limits), 0)) {
            Ok(false) => {}
            other => return Poll::Ready(other),
        }
        if !*begun {
            *begun = true;
            conn.arm(server.client_header_timeout);
        }
        match conn.poll_fill(cx) {
            Poll::Ready(Ok(n)) if n > 0 => {}
            // Nobody is there to read a page; the logs tell.
            Poll::Ready(Ok(_)) => {
                conn.break_off();
                conn.with_input(|b| (head.read_so_far(b, &limits), 0));
                return Poll::Ready(Err(HeadError::new(400, CLOSED)));
            }
            Poll::Ready(Err(_)) => {
                conn.break_off();
                return Poll::Ready(Ok(false));
            }
            Poll::Pending if conn.poll_deadline(cx) => {
                conn.with_input(|b| (head.read_so_far(b, &limits), 0));
                return Poll::Ready(Err(HeadError::new(408, TIMED_OUT)));
            }
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// What the log says of a head that does not come to its end.
const CLOSED: &str = "client prematurely closed connection";
const TIMED_OUT: &str = "client timed out (110: Connection timed out)";

/// Waits a little for what the client still sends, so that it can read the response before a reset.
async fn linger_and_close(conn: &Rc<Conn>, time_ms: u64, timeout_ms: u64) {
    let _ = poll_fn(|cx| conn.poll_shutdown(cx)).await;
    let end = clock::monotonic_ms() + time_ms;
    conn.arm(timeout_ms.min(time_ms));
    poll_fn(|cx| {
        loop {
            let n = conn.input_len();
            conn.with_input(|_| ((), n));
            match conn.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    let now = clock::monotonic_ms();
                    if now >= end {
                        return Poll::Ready(());
                    }
                    conn.arm(timeout_ms.min(end - now));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if conn.poll_deadline(cx) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
