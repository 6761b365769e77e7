//! One request through `proxy_pass`: the body is read, servers are asked in turn, the response is passed on.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::create::{self, BodyFraming, Destination};
use super::head::{self, HeadFault, ResponseHead};
use super::link::{ConnectError, ConnectOptions, Link, Pool, connect};
use super::peer::{Ended, Key, Picker};
use super::pipe::{BodyEnd, Framing, Pipe, client_is_gone};
use super::resolvers::Resolvers;
use super::send::{SendFault, Sending, Source};
use super::{Group, Upstreams, headers, tunnel};
use crate::conf::directives::proxy::SCHEME;
use crate::conf::error::os_text;
use crate::conf::model::{Content, Level};
use crate::conf::proxy::{NextOn, ProxyConf, ProxyPass, ProxyTarget, ProxyVersion, bind_address};
use crate::conf::upstream::{Balance, PeerAddr};
use crate::conf::url;
use crate::cosocket::resolver::Names;
use crate::cosocket::trace::Trace;
use crate::flow::filters::submit;
use crate::flow::pooled::{Runners, run_on};
use crate::flow::{Handler, Run, Verdict, Worker};
use crate::http1::body::Decoder;
use crate::http1::clock;
use crate::http1::deadline::Deadline;
use crate::request::Request;
use crate::request::body::{Body, BodyError, read_body};
use crate::request::response::{Chunk, Sink};
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
enum Fault {
    /// Another server may be asked.
    Next(NextOn),
    /// The request ends with this status.
    Status(u16),
}

/// Where the chosen server's connection goes when it is free again.
struct Home {
    pool: Rc<Pool>,
    addr: PeerAddr,
    tag: usize,
    idle_ms: u64,
    requests_max: u64,
    time_max_ms: u64,
}

/// A request on its way.
struct Job<'a> {
    w: &'a Rc<Worker>,
    req: &'a Rc<Request>,
    pass: &'a Arc<ProxyPass>,
    conf: &'a Arc<ProxyConf>,
    group: Rc<Group>,
    to: Destination,
    uri: Vec<u8>,
    framing: BodyFraming,
    unbuffered: bool,
    head: Vec<u8>,
    options: ConnectOptions,
    started_ms: u64,
    /// Something was sent on the running try.
    sent: bool,
    /// The running try failed on a connection that had been kept.
    on_kept: bool,
}

/// Runs `f` on what the request remembers of its servers.
fn with_info<R>(req: &Request, f: impl FnOnce(&mut UpstreamInfo) -> R) -> R {
    f(req.upstream.borrow_mut().get_or_insert_default())
}

/// The running try is over.
fn finish_try(req: &Request) {
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

/// The group and path that the request goes to. The error is a status.
async fn destination(
    ups: &Rc<Upstreams>,
    names: &Resolvers,
    req: &Rc<Request>,
    pass: &ProxyPass,
) -> Result<(Rc<Group>, Destination), u16> {
    let script = match &pass.target {
        ProxyTarget::Fixed { upstream, host, port, uri } => {
            with_info(req, |info| {
                info.begin_group();
                info.proxy_host = host.clone();
                info.proxy_port = *port;
            });
            let to = Destination { host: host.clone(), uri: uri.clone() };
            return Ok((ups.get(*upstream).clone(), to));
        }
        ProxyTarget::Script(script) => script,
    };
    with_info(req, UpstreamInfo::begin_group);
    let text = req.eval(script);
    let has_scheme = text.len() > SCHEME.len() && text[..SCHEME.len()].eq_ignore_ascii_case(SCHEME);
    if !has_scheme {
        let line = [b"invalid URL prefix in \"", &text[..], b"\""].concat();
        req.log(Level::Error, &line);
        return Err(500);
    }
    let rest = &text[SCHEME.len()..];
    let url = url::parse(rest, 80).map_err(|why| {
        let line = [why.as_bytes(), b" in upstream \"", rest, b"\""].concat();
        req.log(Level::Error, &line);
        500u16
    })?;
    let mut uri = url.uri.clone();
    if uri.first() == Some(&b'?') {
        uri.insert(0, b'/');
    }
    let to = Destination { host: url.host_header(80).into_bytes().into(), uri: uri.into() };
    with_info(req, |info| {
        info.proxy_host = to.host.clone();
        info.proxy_port = if url.is_unix() { 0 } else { url.port };
    });
    let port = url.port_text.as_ref().map(|_| url.port);
    if let Some(group) = ups.find(&url.host, port).filter(|g| g.conf.explicit || port.is_some()) {
        return Ok((group.clone(), to));
    }
    let addrs = match &url.addr {
        Some(addr) => vec![addr.clone()],
        None => resolve(names, req, &url.host, url.port).await?,
    };
    Ok((ups.passing(&url.host, addrs), to))
}

/// The addresses of a name, asked for the request.
async fn resolve(
    resolvers: &Resolvers,
    req: &Rc<Request>,
    host: &str,
    port: u16,
) -> Result<Vec<PeerAddr>, u16> {
    let (line, timeout_ms) = {
        let loc = req.location();
        (loc.resolver.clone(), loc.resolver_timeout)
    };
    let Some(line) = line else {
        req.log(Level::Error, format!("no resolver defined to resolve {host}").as_bytes());
        return Err(502);
    };
    let names = Names::Resolver(resolvers.of(&line), timeout_ms);
    match names.lookup(host, &Trace::default()).await {
        Ok(found) => Ok(found.into_iter().map(|ip| PeerAddr::Inet(SocketAddr::new(ip, port))).collect()),
        Err(why) => {
            req.log(Level::Error, why.as_bytes());
            Err(502)
        }
    }
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
                tag: hasher.finalize() as usize,
                idle_ms: keepalive.idle_timeout_ms,
                requests_max: if keepalive.max_requests == 0 { u64::MAX } else { keepalive.max_requests },
                time_max_ms: u64::MAX,
            });
        }
        let keep = self.group.conf.keepalive?;
        Some(Home {
            pool: self.group.pool.clone()?,
            addr: addr.clone(),
            tag: if keep.local { Arc::as_ptr(self.conf) as usize } else { 0 },
            idle_ms: keep.timeout_ms,
            requests_max: keep.requests,
            time_max_ms: keep.time_ms,
        })
    }

    fn timeouts(&self) -> (u64, u64, u64) {
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
        let mut deadline = Deadline::new();
        deadline.arm(self.timeouts().0);
        let mut connecting = std::pin::pin!(connect(addr, &options));
        let result = std::future::poll_fn(|cx| {
            if let Poll::Ready(r) = connecting.as_mut().poll(cx) {
                return Poll::Ready(Some(Some(r)));
            }
            if deadline.poll(cx) {
                return Poll::Ready(Some(None));
            }
            if client_is_gone(self.req, self.conf, cx) {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await;
        match result {
            None => Err(Fault::Status(499)),
            Some(None) => {
                self.req.log(Level::Error, b"upstream timed out (110: Connection timed out)");
                Err(Fault::Next(NextOn::TIMEOUT))
            }
            Some(Some(Ok(io))) => Ok(io),
            Some(Some(Err(ConnectError::Bind(e)))) => {
                let local = options.local.map(|a| a.ip().to_string()).unwrap_or_default();
                let text = format!("bind({local}) failed {}", os_text(&e));
                self.req.log(Level::Crit, text.as_bytes());
                Err(Fault::Status(500))
            }
            Some(Some(Err(ConnectError::Connect(e)))) => {
                self.log_connect_error(addr, &e);
                Err(Fault::Next(NextOn::ERROR))
            }
        }
    }

    /// nginx's line: errors that the system tells at once show the address.
    fn log_connect_error(&self, addr: &PeerAddr, e: &std::io::Error) {
        let at_once = matches!(addr, PeerAddr::Unix(_))
            || matches!(
                e.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EACCES | libc::EADDRNOTAVAIL | libc::EPERM | libc::EINVAL)
            );
        let grave = !matches!(
            e.raw_os_error(),
            Some(
                libc::ECONNREFUSED
                    | libc::EAGAIN
                    | libc::ECONNRESET
                    | libc::ENETDOWN
                    | libc::ENETUNREACH
                    | libc::EHOSTDOWN
                    | libc::EHOSTUNREACH
                    | libc::ETIMEDOUT
            )
        );
        let level = if at_once && grave { Level::Crit } else { Level::Error };
        let to = if at_once { format!(" to {addr}") } else { String::new() };
        self.req.log(level, format!("connect(){to} failed {}", os_text(e)).as_bytes());
    }

    /// Sends the request and reads the head of the response.
    async fn talk(&mut self, link: &mut Link) -> Result<(ResponseHead, Sending), Fault> {
        let source = match self.framing {
            _ if self.conf.proxy_set_body.is_some() || !self.conf.proxy_pass_request_body => Source::Nothing,
            BodyFraming::None => Source::Nothing,
            _ if self.unbuffered => {
                self.req.conn.arm(self.req.location().client_body_timeout);
                Source::Client { chunked: self.framing == BodyFraming::Chunked }
            }
            _ => match &*self.req.body.borrow() {
                Body::File(file) => match std::fs::File::open(&file.path) {
                    Ok(file) => Source::File(file),
                    Err(e) => {
                        let text = format!("open() \"{}\" failed {}", file.path.display(), os_text(&e));
                        self.req.log(Level::Crit, text.as_bytes());
                        return Err(Fault::Status(500));
                    }
                },
                Body::Memory(_) => Source::Memory { at: 0 },
                _ => Source::Nothing,
            },
        };
        let mut sending = Sending::new(self.req, std::mem::take(&mut self.head), source);
        let (_, send_ms, read_ms) = self.timeouts();
        let mut deadline = Deadline::new();
        deadline.arm(send_ms);
        self.req.action.set("sending request to upstream");
        let max = usize::try_from(self.conf.proxy_buffer_size).unwrap_or(usize::MAX);
        let mut sent_all = false;
        let result = std::future::poll_fn(|cx| {
            let mut progress = false;
            if !sent_all {
                match sending.poll(self.req, link, cx, &mut progress) {
                    Poll::Ready(Ok(())) => {
                        sent_all = true;
                        self.req.action.set("reading response header from upstream");
                        deadline.arm(read_ms);
                    }
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(self.send_fault(fault))),
                    Poll::Pending => {
                        if progress {
                            deadline.arm(send_ms);
                        }
                        if sending.reads_client() {
                            // The client has its own time limit.
                            deadline.arm(send_ms.max(read_ms));
                        }
                    }
                }
                self.sent |= link.sent > 0;
            }
            loop {
                match link.poll_fill(cx, max) {
                    Poll::Ready(Ok(0)) => {
                        self.req.action.set("reading response header from upstream");
                        self.req.log(Level::Error, b"upstream prematurely closed connection");
                        return Poll::Ready(Err(Fault::Next(NextOn::ERROR)));
                    }
                    Poll::Ready(Ok(n)) => {
                        self.req.action.set("reading response header from upstream");
                        with_info(self.req, |info| {
                            if let Some(t) = info.current() {
                                t.bytes_received += n as u64;
                            }
                        });
                        match self.parse(link, max) {
                            Ok(Some(head)) => return Poll::Ready(Ok(head)),
                            Ok(None) => deadline.arm(read_ms),
                            Err(fault) => return Poll::Ready(Err(fault)),
                        }
                    }
                    Poll::Ready(Err(e)) => {
                        self.req.action.set("reading response header from upstream");
                        self.req.log(Level::Error, format!("recv() failed {}", os_text(&e)).as_bytes());
                        return Poll::Ready(Err(Fault::Next(NextOn::ERROR)));
                    }
                    Poll::Pending => break,
                }
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
        .await;
        match result {
            Ok(head) => {
                if matches!(head.status, 300..) {
                    // Another server may be asked: its request begins with the same bytes.
                    self.head = sending.head().to_vec();
                }
                Ok((head, sending))
            }
            Err(fault) => {
                self.head = sending.head().to_vec();
                Err(fault)
            }
        }
    }

    fn send_fault(&self, fault: SendFault) -> Fault {
        match fault {
            SendFault::Server(e) => {
                self.req.log(Level::Error, format!("writev() failed {}", os_text(&e)).as_bytes());
                Fault::Next(NextOn::ERROR)
            }
            SendFault::Client(BodyError::Status(s)) => Fault::Status(s),
            SendFault::Client(BodyError::Gone) => Fault::Status(499),
            SendFault::File(e) => {
                self.req.log(Level::Crit, format!("read() failed {}", os_text(&e)).as_bytes());
                Fault::Status(500)
            }
        }
    }

    /// The head, if it is all there. Interim responses are passed over.
    fn parse(&self, link: &mut Link, max: usize) -> Result<Option<ResponseHead>, Fault> {
        loop {
            match head::parse(link.unread()) {
                Ok(Some((head, len))) => {
                    link.consume(len);
                    if head.bare {
                        self.req.log(Level::Error, b"upstream sent no valid HTTP/1.0 header");
                    }
                    if matches!(head.status, 100 | 102..=199) {
                        continue;
                    }
                    return Ok(Some(head));
                }
                Ok(None) if link.unread().len() >= max => {
                    self.req.log(Level::Error, b"upstream sent too big header");
                    return Err(Fault::Next(NextOn::INVALID_HEADER));
                }
                Ok(None) => return Ok(None),
                Err(HeadFault::Invalid(text)) => {
                    self.req.log(Level::Error, &text);
                    return Err(Fault::Next(NextOn::INVALID_HEADER));
                }
            }
        }
    }

    /// Whether another server may still be asked because of `why`.
    fn may_ask_on(&self, why: NextOn) -> bool {
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

    /// The head is there: another server is asked, or the response is passed on.
    async fn respond(
        &mut self,
        picker: &mut Picker,
        mut link: Link,
        home: Option<Home>,
        mut head: ResponseHead,
        sending: Sending,
    ) -> Result<Verdict, Fault> {
        let req = self.req;
        let status = head.status;
        with_info(req, |info| {
            if let Some(t) = info.current() {
                t.status = status;
                t.header_ms = clock::monotonic_ms().saturating_sub(t.start_ms);
                t.bytes_sent = link.sent;
            }
        });
        if status >= 300 {
            let why = match status {
                500 => Some(NextOn::HTTP_500),
                502 => Some(NextOn::HTTP_502),
                503 => Some(NextOn::HTTP_503),
                504 => Some(NextOn::HTTP_504),
                403 => Some(NextOn::HTTP_403),
                404 => Some(NextOn::HTTP_404),
                429 => Some(NextOn::HTTP_429),
                _ => None,
            };
            if let Some(why) = why
                && picker.tries > 1
                && self.may_ask_on(why)
            {
                return Err(Fault::Next(why));
            }
            let level = req.level.borrow().clone();
            if self.conf.proxy_intercept_errors && level.error_pages.iter().any(|p| p.codes.contains(&status))
            {
                if status == 401 {
                    let mut res = req.response.borrow_mut();
                    for value in head.headers.all(b"www-authenticate") {
                        res.headers.push(b"WWW-Authenticate", value);
                    }
                }
                self.keep_headers(&mut head);
                return Ok(Verdict::Status(status));
            }
        }
        let method = match &self.conf.proxy_method {
            Some(script) => req.eval(script),
            None => req.method.borrow().clone(),
        };
        let no_body = method.eq_ignore_ascii_case(b"HEAD") || matches!(status, 204 | 304);
        let empty = no_body || (!head.chunked && head.content_length == Some(0));
        let upgrade = status == 101 && req.headers.borrow().get(b"upgrade").is_some();
        if let Some(verdict) = headers::accel_redirect(req, self.conf, &head) {
            self.keep_headers(&mut head);
            self.give_back(picker, link, home, &head, empty && sending.is_done());
            return Ok(verdict);
        }
        headers::copy(req, self.conf, self.pass, &head);
        let buffered = headers::buffering(self.conf, &head);
        let framing = if empty {
            Framing::Nothing
        } else if head.chunked {
            Framing::Decoder(Decoder::chunked())
        } else {
            match head.content_length {
                Some(n) => Framing::Decoder(Decoder::Length(n)),
                None => Framing::UntilClosed,
            }
        };
        self.keep_headers(&mut head);
        if upgrade {
            if !req.is_main() {
                req.log(Level::Error, b"connection upgrade in subrequest");
                return Ok(self.cut_off());
            }
            return Ok(Box::pin(self.upgrade(&mut link)).await);
        }
        let (_, _, read_ms) = self.timeouts();
        let mut pipe = Pipe::new(self.w, req, self.conf, framing);
        pipe.buffered = buffered;
        pipe.read_timeout_ms = read_ms;
        let end = pipe.run(&mut link).await;
        let (length, received) = (pipe.length, pipe.received);
        drop(pipe);
        with_info(req, |info| {
            if let Some(t) = info.current() {
                t.response_length = length;
                t.bytes_received += received;
                t.bytes_sent = link.sent;
            }
        });
        finish_try(req);
        match end {
            BodyEnd::Whole => {
                self.give_back(picker, link, home, &head, sending.is_done());
                Ok(Verdict::Done)
            }
            BodyEnd::Broken => Ok(self.cut_off()),
            BodyEnd::ClientGone => {
                req.keepalive.set(false);
                req.response.borrow_mut().eof = true;
                Ok(Verdict::Status(499))
            }
        }
    }

    /// The response's headers stay with the request, for variables.
    fn keep_headers(&self, head: &mut ResponseHead) {
        let headers = std::mem::take(&mut head.headers);
        with_info(self.req, |info| info.headers = Some(headers));
    }

    /// The connection goes back to its pool if it can serve again.
    fn give_back(
        &self,
        picker: &mut Picker,
        link: Link,
        home: Option<Home>,
        head: &ResponseHead,
        complete: bool,
    ) {
        if let Some(home) = home
            && complete
            && !head.close
            && !link.eof
            && link.unread().is_empty()
            && link.requests < home.requests_max
            && clock::monotonic_ms().saturating_sub(link.born_ms) <= home.time_max_ms
            && !self.req.env.exiting.get()
        {
            home.pool.put(link, home.addr, home.tag, home.idle_ms);
        }
        picker.release(Ended::Well);
    }

    /// The response ends before its time: the client must see that it is not whole.
    fn cut_off(&self) -> Verdict {
        let req = self.req;
        req.keepalive.set(false);
        req.flushing.set(true);
        let mut res = req.response.borrow_mut();
        res.eof = true;
        if matches!(res.sink, Sink::Memory(_)) {
            res.fail();
        }
        Verdict::Done
    }

    async fn upgrade(&self, link: &mut Link) -> Verdict {
        let req = self.req;
        req.keepalive.set(false);
        submit(self.w, req, Chunk { head_only: true, flush: true, ..Chunk::default() });
        std::future::poll_fn(|cx| {
            let mut res = req.response.borrow_mut();
            if res.is_quiet() || res.failed {
                return Poll::Ready(());
            }
            res.watch(cx);
            Poll::Pending
        })
        .await;
        let (_, _, read_ms) = self.timeouts();
        let received = tunnel::run(req, link, read_ms).await;
        with_info(req, |info| {
            if let Some(t) = info.current() {
                t.bytes_received += received;
                t.bytes_sent = link.sent;
            }
        });
        let mut res = req.response.borrow_mut();
        res.eof = true;
        Verdict::Done
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
