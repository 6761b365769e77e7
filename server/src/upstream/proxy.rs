//! One request through `proxy_pass`: the body is read, servers are asked in turn, the response is passed on.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::create::{self, BodyFraming, Destination};
use super::destination::destination;
use super::link::{ConnectError, ConnectOptions, Link, Pool, connect};
use super::peer::{Ended, Key, Picker};
use super::pipe::client_is_gone;
use super::resolvers::Resolvers;
use super::{Group, Upstreams};
use crate::conf::error::os_text;
use crate::conf::model::{Content, Level};
use crate::conf::proxy::{NextOn, ProxyConf, ProxyPass, ProxyVersion, bind_address};
use crate::conf::upstream::{Balance, PeerAddr};
use crate::cosocket::error::is_usual;
use crate::flow::pooled::{Runners, run_on};
use crate::flow::{Handler, Run, Verdict, Worker};
use crate::http1::body::Decoder;
use crate::http1::clock;
use crate::http1::deadline::Deadline;
use crate::request::Request;
use crate::request::body::{Body, BodyError, read_body};
use crate::request::upstream::{LastFailure, NO_TIME, UpstreamInfo, UpstreamTry};

/// A request for one of the groups of servers.
type Passed = (Rc<Upstreams>, Rc<Resolvers>, Rc<Worker>, Rc<Request>);

thread_local! {
    static RUNNERS: Runners<Passed, Verdict> = const { Runners::new() };
}

/// The content handler of `proxy_pass`.
pub struct Proxy {
    /// The groups.
    pub upstreams: Rc<Upstreams>,
    /// Who finds the addresses of other names.
    pub resolvers: Rc<Resolvers>,
}

impl Handler for Proxy {
    fn run(&self, w: &Rc<Worker>, req: &Rc<Request>) -> Run {
        let job = (self.upstreams.clone(), self.resolvers.clone(), w.clone(), req.clone());
        Run::Wait(Box::pin(run_on(&RUNNERS, job, |desk| async move {
            loop {
                let (ups, names, w, req) = desk.job().await;
                let level = req.level.borrow().clone();
                let verdict = match &level.content {
                    Some(Content::Proxy(pass)) => run(&ups, &names, &w, &req, pass, &level.proxy).await,
                    _ => Verdict::Status(500),
                };
                finish_try(&req);
                req.action.set(if matches!(verdict, Verdict::Done) { "sending to client" } else { "" });
                // The runner keeps nothing of the request while it waits for the next one.
                drop((ups, names, w, req, level));
                desk.done(verdict);
            }
        })))
    }
}

/// Why a try brought no response.
pub(super) enum Fault {
    /// Another server may be asked.
    Next(NextOn),
    /// The request ends with this status.
    Status(u16),
}

/// Where the chosen server's connection goes when it is free again.
pub(super) struct Home {
    pub(super) pool: Rc<Pool>,
    pub(super) addr: PeerAddr,
    pub(super) tag: usize,
    pub(super) idle_ms: u64,
    pub(super) requests_max: u64,
    pub(super) time_max_ms: u64,
}

/// A request on its way.
pub(super) struct Job<'a> {
    pub(super) w: &'a Rc<Worker>,
    pub(super) req: &'a Rc<Request>,
    pub(super) pass: &'a Arc<ProxyPass>,
    pub(super) conf: &'a Arc<ProxyConf>,
    pub(super) group: Rc<Group>,
    pub(super) to: Destination,
    pub(super) uri: Vec<u8>,
    pub(super) framing: BodyFraming,
    pub(super) unbuffered: bool,
    pub(super) head: Vec<u8>,
    pub(super) options: ConnectOptions,
    pub(super) started_ms: u64,
    /// Something was sent on the running try.
    pub(super) sent: bool,
    /// The running try failed on a connection that had been kept.
    pub(super) on_kept: bool,
}

/// Runs `f` on what the request remembers of its servers.
pub(super) fn with_info<R>(req: &Request, f: impl FnOnce(&mut UpstreamInfo) -> R) -> R {
    f(req.upstream.borrow_mut().get_or_insert_default())
}

/// The running try is over.
pub(super) fn finish_try(req: &Request) {
    with_info(req, |info| {
        if let Some(t) = info.current()
            && t.response_ms == NO_TIME
        {
            t.response_ms = clock::monotonic_ms().saturating_sub(t.start_ms);
        }
    });
}

async fn run(
    ups: &Rc<Upstreams>,
    names: &Resolvers,
    w: &Rc<Worker>,
    req: &Rc<Request>,
    pass: &Arc<ProxyPass>,
    conf: &Arc<ProxyConf>,
) -> Verdict {
    let (group, to) = match destination(ups, names, req, pass).await {
        Ok(found) => found,
        Err(status) => return Verdict::Status(status),
    };
    let chunked = matches!(req.incoming.borrow().decoder, Some(Decoder::Chunked(_)));
    let fresh = matches!(*req.body.borrow(), Body::Unread) && !req.incoming.borrow().is_done();
    let unbuffered = !conf.proxy_request_buffering
        && fresh
        && conf.proxy_pass_request_body
        && conf.proxy_set_body.is_none()
        && !(chunked && conf.proxy_http_version == ProxyVersion::V10);
    if !unbuffered {
        match read_body(req).await {
            Ok(()) => {}
            Err(BodyError::Status(s)) => return Verdict::Status(s),
            Err(BodyError::Gone) => return Verdict::Status(499),
        }
    }
    let mut job = Job {
        w,
        req,
        pass,
        conf,
        group,
        to,
        uri: Vec::new(),
        framing: BodyFraming::None,
        unbuffered,
        head: Vec::new(),
        options: ConnectOptions::default(),
        started_ms: clock::monotonic_ms(),
        sent: false,
        on_kept: false,
    };
    if let Err(status) = job.prepare() {
        return Verdict::Status(status);
    }
    job.ask().await
}

impl Job<'_> {
    /// Makes the request's bytes and the options of its connections. The error is a status.
    fn prepare(&mut self) -> Result<(), u16> {
        let (req, conf) = (self.req, self.conf);
        let mut set_body = None;
        self.framing = if let Some(script) = &conf.proxy_set_body {
            let body = req.eval(script);
            let framing = BodyFraming::Length(body.len() as u64);
            set_body = Some(body);
            framing
        } else if self.unbuffered {
            match &req.incoming.borrow().decoder {
                Some(Decoder::Chunked(_)) => BodyFraming::Chunked,
                Some(Decoder::Length(_)) => declared_length(req),
                None => BodyFraming::None,
            }
        } else {
            match &*req.body.borrow() {
                Body::Memory(data) if !data.is_empty() => BodyFraming::Length(data.len() as u64),
                Body::File(file) => BodyFraming::Length(file.len),
                _ if matches!(req.incoming.borrow().decoder, Some(Decoder::Chunked(_))) => {
                    BodyFraming::Length(0)
                }
                _ => declared_length(req),
            }
        };
        self.uri.clear();
        create::write_uri(req, self.pass, &self.to, &mut self.uri);
        if self.uri.is_empty() {
            req.log(Level::Error, b"zero length URI to proxy");
            return Err(500);
        }
        with_info(req, |info| {
            info.uri.clone_from(&self.uri);
            info.group = Some(self.group.conf.clone());
        });
        self.head = create::head(req, conf, &self.to, &self.uri, self.framing);
        if let Some(body) = set_body {
            self.head.extend_from_slice(&body);
        }
        let local = match &conf.proxy_bind.address {
            None => None,
            Some(script) => {
                let text = String::from_utf8_lossy(&req.eval(script)).into_owned();
                let local = if text.is_empty() { None } else { bind_address(&text) };
                if local.is_none() && !text.is_empty() {
                    req.log(Level::Error, format!("invalid local address \"{text}\"").as_bytes());
                }
                local
            }
        };
        self.options = ConnectOptions {
            local,
            transparent: conf.proxy_bind.transparent,
            keepalive: conf.proxy_socket_keepalive,
            rcvbuf: u32::try_from(conf.proxy_socket_rcvbuf).unwrap_or(u32::MAX),
            sndbuf: u32::try_from(conf.proxy_socket_sndbuf).unwrap_or(u32::MAX),
        };
        Ok(())
    }

    fn key(&self) -> Key {
        let mut key = Key::default();
        match &self.group.conf.balance {
            Balance::Hash { key: script, .. } => key.hash = self.req.eval(script),
            Balance::IpHash => {
                key.ip = match self.req.conn.peer.map(|a| a.ip().to_canonical()) {
                    Some(IpAddr::V4(ip)) => ip.octets()[..3].to_vec(),
                    Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
                    None => vec![0; 3],
                };
            }
            _ => {}
        }
        key
    }

    /// Asks one server after the other.
    async fn ask(&mut self) -> Verdict {
        let mut picker = Picker::new(&self.group.peers, self.key());
        let max = self.conf.proxy_next_upstream_tries;
        if max > 0 {
            picker.tries = picker.tries.min(max);
        }
        loop {
            finish_try(self.req);
            self.req.action.set("connecting to upstream");
            self.sent = false;
            self.on_kept = false;
            let fault = match self.choose(&mut picker).await {
                Ok((addr, name)) => match self.exchange(&mut picker, addr, name).await {
                    Ok(verdict) => return verdict,
                    Err(fault) => fault,
                },
                Err(fault) => fault,
            };
            match fault {
                Fault::Status(status) => return Verdict::Status(status),
                Fault::Next(why) => {
                    if let Some(status) = self.next(&mut picker, why) {
                        return Verdict::Status(status);
                    }
                }
            }
        }
    }

    /// The server to be asked now.
    async fn choose(&mut self, picker: &mut Picker) -> Result<(PeerAddr, Arc<str>), Fault> {
        if let Some(code) = self.group.conf.balancer.clone() {
            let Some(scripts) = &self.w.scripts else { return Err(Fault::Status(500)) };
            with_info(self.req, |info| {
                let b = &mut info.balancer;
                b.running = true;
                b.peer = None;
                b.more_tries = 0;
                b.keepalive = None;
                b.recreate_request = false;
                b.total_tries += 1;
                b.tries_left = picker.tries;
            });
            let phase = self.req.phase.get();
            let result = scripts.balancer(self.req, &code).await;
            self.req.phase.set(phase);
            let (peer, more, recreate) = with_info(self.req, |info| {
                let b = &mut info.balancer;
                b.running = false;
                (b.peer.clone(), b.more_tries, b.recreate_request)
            });
            if let Err(status) = result {
                self.begin_try(Arc::from(""));
                return Err(Fault::Status(status));
            }
            if recreate {
                self.prepare().map_err(Fault::Status)?;
            }
            if let Some(peer) = peer {
                picker.tries += more;
                let name = peer.to_string().into();
                return Ok((peer, name));
            }
        }
        match picker.pick() {
            Some(_) if self.group.conf.placeholder => {
                self.begin_try(Arc::from(""));
                self.req.log(Level::Error, b"lua balancer: no peer set");
                Err(Fault::Status(500))
            }
            Some(found) => Ok(found),
            None => {
                let name: Arc<str> = self.group.conf.name.as_str().into();
                with_info(self.req, |info| info.peer = Some(name.clone()));
                self.begin_try(name);
                self.req.log(Level::Error, b"no live upstreams");
                picker.tries = 0;
                Err(Fault::Next(NextOn::NO_LIVE))
            }
        }
    }

    fn begin_try(&self, name: Arc<str>) {
        with_info(self.req, |info| info.tries.push(UpstreamTry::begin(name, clock::monotonic_ms())));
    }

    /// One try: connect, send, read the head, pass the response on.
    async fn exchange(
        &mut self,
        picker: &mut Picker,
        addr: PeerAddr,
        name: Arc<str>,
    ) -> Result<Verdict, Fault> {
        with_info(self.req, |info| info.peer = Some(name.clone()));
        self.begin_try(name);
        let home = self.home(&addr);
        let mut link = match home.as_ref().and_then(|h| h.pool.take(&h.addr, Some(h.tag))) {
            Some(link) => link,
            None => Link::new(Box::pin(self.connect(&addr)).await?),
        };
        link.requests += 1;
        with_info(self.req, |info| {
            if let Some(t) = info.current() {
                t.connect_ms = clock::monotonic_ms().saturating_sub(t.start_ms);
            }
        });
        let (head, sending) = match self.talk(&mut link).await {
            Ok(found) => found,
            Err(fault) => {
                with_info(self.req, |info| {
                    if let Some(t) = info.current() {
                        t.bytes_sent = link.sent;
                    }
                });
                // What a script keeps, a script retries.
                self.on_kept = link.reused && self.group.conf.balancer.is_none();
                return Err(fault);
            }
        };
        self.respond(picker, link, home, head, sending).await
    }

    /// The pool that the connection comes from and may go back to.
    fn home(&self, addr: &PeerAddr) -> Option<Home> {
        let chosen = with_info(self.req, |info| {
            let b = &info.balancer;
            b.peer.as_ref().map(|_| (b.keepalive, b.host.clone(), b.local))
        });
        if let Some((keepalive, host, local)) = chosen {
            let keepalive = keepalive?;
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(host.as_deref().unwrap_or_default());
            hasher.update(format!("\0{local:?}").as_bytes());
            return Some(Home {
                pool: self.group.script_pool.clone(),
                addr: addr.clone(),
                tag: self.pool_tag(hasher.finalize() as usize),
                idle_ms: keepalive.idle_timeout_ms,
                requests_max: if keepalive.max_requests == 0 { u64::MAX } else { keepalive.max_requests },
                time_max_ms: u64::MAX,
            });
        }
        let keep = self.group.conf.keepalive?;
        Some(Home {
            pool: self.group.pool.clone()?,
            addr: addr.clone(),
            tag: self.pool_tag(if keep.local { Arc::as_ptr(self.conf) as usize } else { 0 }),
            idle_ms: keep.timeout_ms,
            requests_max: keep.requests,
            time_max_ms: keep.time_ms,
        })
    }

    pub(super) fn timeouts(&self) -> (u64, u64, u64) {
        let conf = self.conf;
        with_info(self.req, |info| {
            let b = &info.balancer;
            (
                b.connect_timeout_ms.unwrap_or(conf.proxy_connect_timeout),
                b.send_timeout_ms.unwrap_or(conf.proxy_send_timeout),
                b.read_timeout_ms.unwrap_or(conf.proxy_read_timeout),
            )
        })
    }

    async fn connect(&mut self, addr: &PeerAddr) -> Result<crate::http1::conn::Transport, Fault> {
        let mut options = self.options.clone();
        if let Some(local) = with_info(self.req, |info| info.balancer.local) {
            options.local = Some(local);
        }
        match self.within(connect(addr, &options)).await? {
            Ok(io) => self.secure(io, addr).await,
            Err(ConnectError::Bind(e)) => {
                let local = options.local.map(|a| a.ip().to_string()).unwrap_or_default();
                let text = format!("bind({local}) failed {}", os_text(&e));
                self.req.log(Level::Crit, text.as_bytes());
                Err(Fault::Status(500))
            }
            Err(ConnectError::Connect(e)) => {
                self.log_connect_error(addr, &e);
                Err(Fault::Next(NextOn::ERROR))
            }
        }
    }

    /// Waits for a step of making a connection, no longer than one may take and than the client is there.
    pub(super) async fn within<R>(&self, step: impl Future<Output = R>) -> Result<R, Fault> {
        let mut deadline = Deadline::new();
        deadline.arm(self.timeouts().0);
        let mut step = std::pin::pin!(step);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(r) = step.as_mut().poll(cx) {
                return Poll::Ready(Ok(r));
            }
            if deadline.poll(cx) {
                self.req.log(Level::Error, b"upstream timed out (110: Connection timed out)");
                return Poll::Ready(Err(Fault::Next(NextOn::TIMEOUT)));
            }
            if client_is_gone(self.req, self.conf, cx) {
                return Poll::Ready(Err(Fault::Status(499)));
            }
            Poll::Pending
        })
        .await
    }

    /// nginx's line: errors that the system tells at once show the address.
    fn log_connect_error(&self, addr: &PeerAddr, e: &std::io::Error) {
        let at_once = matches!(addr, PeerAddr::Unix(_))
            || matches!(
                e.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EACCES | libc::EADDRNOTAVAIL | libc::EPERM | libc::EINVAL)
            );
        let level = if at_once && !is_usual(e) { Level::Crit } else { Level::Error };
        let to = if at_once { format!(" to {addr}") } else { String::new() };
        self.req.log(level, format!("connect(){to} failed {}", os_text(e)).as_bytes());
    }

    /// Whether another server may still be asked because of `why`.
    pub(super) fn may_ask_on(&self, why: NextOn) -> bool {
        let conf = self.conf;
        let unsafe_method = self.sent && matches!(&**self.req.method.borrow(), b"POST" | b"LOCK" | b"PATCH");
        let why = if unsafe_method { why.or(NextOn::NON_IDEMPOTENT) } else { why };
        let limit = conf.proxy_next_upstream_timeout;
        conf.proxy_next_upstream.has(why)
            && !(self.sent && self.unbuffered)
            && !(limit > 0 && clock::monotonic_ms().saturating_sub(self.started_ms) >= limit)
    }

    /// The server is done with; returns the status to end with when no other is asked.
    fn next(&mut self, picker: &mut Picker, why: NextOn) -> Option<u16> {
        self.req.log(Level::Debug, format!("http next upstream, {:x}", why.number()).as_bytes());
        let soft = why == NextOn::HTTP_403 || why == NextOn::HTTP_404;
        let by_script = with_info(self.req, |info| {
            let b = &mut info.balancer;
            b.last_failure = if soft { LastFailure::Next } else { LastFailure::Failed };
            b.peer.is_some()
        });
        let ended = if soft { Ended::Next } else { Ended::Failed };
        if why != NextOn::NO_LIVE && picker.release(ended) && !by_script {
            self.req.log(Level::Warn, b"upstream server temporarily disabled");
        }
        if self.on_kept && why == NextOn::ERROR {
            // A kept connection may have been closed in the meantime: that is nobody's try.
            picker.tries += 1;
        }
        let status = match why {
            NextOn::TIMEOUT | NextOn::HTTP_504 => 504,
            NextOn::HTTP_500 => 500,
            NextOn::HTTP_503 => 503,
            NextOn::HTTP_403 => 403,
            NextOn::HTTP_404 => 404,
            NextOn::HTTP_429 => 429,
            _ => 502,
        };
        if self.req.gone.get() || self.req.conn.is_broken() {
            return Some(499);
        }
        with_info(self.req, |info| {
            if let Some(t) = info.current() {
                t.status = status;
            }
            info.balancer.last_status = status;
        });
        if picker.tries == 0 || !self.may_ask_on(why) { Some(status) } else { None }
    }
}

/// The length that the request's own header gives.
fn declared_length(req: &Request) -> BodyFraming {
    let headers = req.headers.borrow();
    match headers.get(b"content-length").and_then(crate::conf::value::number) {
        Some(n) => BodyFraming::Length(n),
        None => BodyFraming::None,
    }
}
