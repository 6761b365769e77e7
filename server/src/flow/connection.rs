//! A client connection from accept to close: requests one after the other.
//!
//! While it waits for a request it holds no buffer and no request: the busy
//! part lives in a box that is made when bytes arrive and dropped afterwards.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::filters::drive;
use super::pooled::{Blocks, pooled};
use super::{Worker, engine};
use crate::conf::model::{Level, Listen, Server};
use crate::conf::settings::LingeringClose;
use crate::http1::body::Decoder;
use crate::http1::clock;
use crate::http1::conn::Conn;
use crate::http1::parse::{Head, HeadError, Limits};
use crate::phase::Phase;
use crate::request::body::{Body, Incoming, discard};
use crate::request::headers::Headers;
use crate::request::response::Response;
use crate::request::vars::{Captures, set_named};
use crate::request::{Request, postpone, uri, with_match};

/// Internal redirects a request may make.
const REDIRECTS_MAX: u8 = 10;

/// What the busy part of a connection ended with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// The connection waits for its next request, at most that long.
    Idle(u64),
    /// It is closed.
    Close,
}

thread_local! {
    static BUSY: Blocks = const { RefCell::new(Vec::new()) };
    static HEADS: RefCell<Vec<Head>> = const { RefCell::new(Vec::new()) };
}

/// Serves a connection to its end. `listen` is the index of the listen entry it belongs to; `draining`
/// is asked while the connection idles and wakes it when the worker stops.
pub async fn serve(w: Rc<Worker>, conn: Rc<Conn>, listen: usize, draining: Rc<tokio::sync::Notify>) {
    let stats = &w.env.stats;
    stats.accepted.set(stats.accepted.get() + 1);
    stats.active.set(stats.active.get() + 1);
    let _active = Active(w.clone());
    let mut wait_ms = w.env.http().servers[w.env.http().listens[listen].default_server].client_header_timeout;
    loop {
        conn.arm(wait_ms);
        if !wait_for_bytes(&w, &conn, &draining).await {
            return;
        }
        conn.disarm();
        let (w2, c2) = (w.clone(), conn.clone());
        match pooled(&BUSY, async move { busy(&w2, &c2, listen).await }).await {
            Rest::Idle(ms) => wait_ms = ms,
            Rest::Close => return,
        }
        conn.release_buffers();
    }
}

struct Active(Rc<Worker>);

impl Drop for Active {
    fn drop(&mut self) {
        let n = &self.0.env.stats.active;
        n.set(n.get().saturating_sub(1));
    }
}

/// How long a stopping worker waits for a request that may be on its way on an idle connection. It is
/// answered with `Connection: close`; closing at once would lose it.
const DRAIN_MS: u64 = 1000;

/// False when the time is over, the client is gone or the worker stops and nothing comes.
async fn wait_for_bytes(w: &Rc<Worker>, conn: &Rc<Conn>, draining: &tokio::sync::Notify) -> bool {
    let ready = || {
        poll_fn(|cx| {
            if conn.poll_readable(cx).is_ready() {
                return Poll::Ready(true);
            }
            if conn.poll_deadline(cx) { Poll::Ready(false) } else { Poll::Pending }
        })
    };
    if !w.env.exiting.get() {
        tokio::select! {
            biased;
            r = ready() => return r,
            () = draining.notified() => {}
        }
    }
    conn.arm(DRAIN_MS);
    ready().await
}

async fn busy(w: &Rc<Worker>, conn: &Rc<Conn>, listen: usize) -> Rest {
    let mut head = HEADS.with_borrow_mut(Vec::pop).unwrap_or_default();
    let rest = requests(w, conn, listen, &mut head).await;
    head.reset();
    HEADS.with_borrow_mut(|h| {
        if h.len() < 16 {
            h.push(head);
        }
    });
    rest
}

async fn requests(w: &Rc<Worker>, conn: &Rc<Conn>, listen: usize, head: &mut Head) -> Rest {
    let mut idle_ms = 0;
    loop {
        head.reset();
        let http = w.env.http();
        let local = w.env.config.listen_of(listen, conn.local).unwrap_or(&http.listens[listen]);
        let default = &http.servers[local.default_server];
        let parsed = match read_head(w, conn, default, head).await {
            Ok(true) => Ok(()),
            Ok(false) if conn.input_len() == 0 && !conn.at_eof() && !conn.is_broken() => {
                // Readiness without bytes, or an idle connection.
                return Rest::Idle(if idle_ms > 0 { idle_ms } else { default.client_header_timeout });
            }
            Ok(false) => {
                if conn.at_eof() && conn.input_len() == 0 && conn.requests.get() > 0 {
                    log_closed(w, conn, default);
                }
                return Rest::Close;
            }
            Err(e) => Err(e),
        };
        clock::update();
        let (req, status) = make_request(w, conn, local, head, parsed);
        let stats = &w.env.stats;
        stats.requests.set(stats.requests.get() + 1);
        stats.writing.set(stats.writing.get() + 1);
        drive(w, &req, engine::run(w, &req, status)).await;
        if req.keepalive.get() && !req.incoming.borrow().is_done() && !discard(&req).await {
            req.keepalive.set(false);
        }
        postpone::clear(&req);
        conn.throttle(0, 0);
        stats.writing.set(stats.writing.get().saturating_sub(1));
        let keep = req.keepalive.get() && !req.gone.get() && !conn.is_broken();
        let lingering = req.location().lingering_close;
        let broken = req.gone.get() || conn.is_broken();
        let unread = !req.incoming.borrow().is_done() || parsed.is_err();
        let linger = (req.location().lingering_time, req.location().lingering_timeout);
        idle_ms = req.location().keepalive_timeout.timeout_ms;
        let (w2, r2) = (w.clone(), req);
        let has_log_code = r2.location().lua.get(Phase::Log).is_some();
        if has_log_code {
            engine::finish_or_detach(Box::pin(async move { engine::log(&w2, &r2).await })).await;
        } else {
            engine::log(&w2, &r2).await;
        }
        if !keep {
            let unread = unread || conn.input_len() > 0 || (!broken && has_more(conn).await);
            if !broken && (lingering == LingeringClose::Always || (lingering == LingeringClose::On && unread))
            {
                linger_and_close(conn, linger.0, linger.1).await;
            }
            return Rest::Close;
        }
        if conn.input_len() == 0 {
            return Rest::Idle(idle_ms);
        }
    }
}

/// nginx's line for a client that leaves between two requests.
fn log_closed(w: &Rc<Worker>, conn: &Rc<Conn>, server: &Server) {
    let logs = &server.level.error_logs;
    if w.env.logs.enabled(logs, Level::Info) {
        let who = conn.peer.map_or_else(|| "unix:".to_owned(), |peer| peer.ip().to_canonical().to_string());
        let line = format!("client {who} closed keepalive connection");
        w.env.logs.error(logs, Level::Info, Some(conn.serial), line.as_bytes());
    }
}

/// Reads until a head is complete. `Ok(false)` when there is none: the connection ended or went quiet.
async fn read_head(
    w: &Rc<Worker>,
    conn: &Rc<Conn>,
    server: &Server,
    head: &mut Head,
) -> Result<bool, HeadError> {
    let limits = limits_of(server);
    let reading = &w.env.stats.reading;
    reading.set(reading.get() + 1);
    let mut armed = false;
    let result = poll_fn(|cx| {
        loop {
            if conn.input_len() > 0 {
                match conn.with_input(|b| (head.parse(b, &limits), 0)) {
                    Ok(false) => {}
                    other => return Poll::Ready(other),
                }
                if !armed {
                    armed = true;
                    conn.arm(server.client_header_timeout);
                }
            }
            match conn.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Err(_)) => {
                    conn.break_off();
                    return Poll::Ready(Ok(false));
                }
                // Readiness without bytes: back to waiting without a buffer.
                Poll::Pending if conn.input_len() == 0 => return Poll::Ready(Ok(false)),
                Poll::Pending if conn.poll_deadline(cx) => return Poll::Ready(Ok(false)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    reading.set(reading.get().saturating_sub(1));
    conn.disarm();
    result
}

/// Whether something has come that was not asked for; does not wait.
async fn has_more(conn: &Rc<Conn>) -> bool {
    poll_fn(|cx| Poll::Ready(conn.poll_readable(cx).is_ready() && !conn.at_eof())).await
}

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

/// What the head says beyond its syntax.
struct Meaning {
    host: Vec<u8>,
    decoder: Option<Decoder>,
    keepalive: bool,
    expects_continue: bool,
}

fn make_request(
    w: &Rc<Worker>,
    conn: &Rc<Conn>,
    listen: &Listen,
    head: &mut Head,
    parsed: Result<(), HeadError>,
) -> (Rc<Request>, Option<u16>) {
    let http = w.env.http();
    conn.requests.set(conn.requests.get() + 1);
    let broken = parsed.is_err();
    if broken {
        conn.with_input(|b| (head.give_up(b), 0));
    }
    let mut parsed = parsed;
    if !broken {
        parsed = by_rules_of_server(w, conn, listen, head);
    }
    let raw = conn.with_input(|b| (b[..head.len].to_vec(), head.len));
    let headers = Headers::over(raw, head.headers.clone());
    let mut fault: Option<(u16, &'static str)> = parsed.err().map(|e| (e.status, e.text));
    let mut meaning =
        Meaning { host: Vec::new(), decoder: None, keepalive: head.version >= 1001, expects_continue: false };
    if fault.is_none() {
        fault = understand(head, &headers, &mut meaning).err();
    } else if head.line_done {
        // The server may be known although the head is bad.
        let named = head.host.map(|s| headers.bytes(s)).or_else(|| headers.get(b"host"));
        meaning.host = named.and_then(valid_host).unwrap_or_default();
    }
    let server = with_match(|data| http.server_of(listen, &meaning.host, data).clone());
    let mut target = uri::Target { uri: b"/".to_vec(), args: Vec::new(), has_args: false };
    if fault.is_none() {
        // Slashes are merged before the server of the name is known.
        let default = &http.servers[listen.default_server];
        match uri::normalise(headers.bytes(head.path), default.merge_slashes) {
            Ok(t) => target = t,
            Err(uri::BadUri) => fault = Some((400, "client sent invalid request")),
        }
    }
    let level = server.level.clone();
    let method = headers.bytes(head.method).to_vec();
    let keepalive = meaning.keepalive
        && fault.is_none()
        && !w.env.exiting.get()
        && level.keepalive_timeout.timeout_ms > 0
        && conn.requests.get() < level.keepalive_requests
        && clock::monotonic_ms() - conn.accepted_ms < level.keepalive_time;
    let req = Rc::new(Request {
        env: w.env.clone(),
        conn: conn.clone(),
        parent: None,
        server: RefCell::new(server),
        level: RefCell::new(level),
        start_ms: clock::now_ms(),
        method: RefCell::new(method),
        version: head.version,
        line: head.line,
        target: head.path,
        head_len: head.len,
        headers: RefCell::new(headers),
        host: RefCell::new(meaning.host),
        uri: RefCell::new(target.uri),
        args: RefCell::new(target.args),
        uri_changed: Cell::new(false),
        redirects_left: Cell::new(REDIRECTS_MAX),
        cycled: Cell::new(false),
        internal: Cell::new(false),
        error_page: Cell::new(false),
        err_status: Cell::new(0),
        keepalive: Cell::new(keepalive),
        flushing: Cell::new(false),
        gone: Cell::new(false),
        incoming: RefCell::new(Incoming {
            decoder: meaning.decoder,
            expects_continue: meaning.expects_continue,
            received: 0,
        }),
        body: RefCell::new(Body::default()),
        response: RefCell::new(Response::default()),
        header_bytes: Cell::new(0),
        slots: Rc::default(),
        unset: RefCell::default(),
        captures: RefCell::new(Captures::default()),
        phase: Cell::new(Phase::ServerRewrite),
        upstream: RefCell::default(),
        location_valid: Cell::new(true),
        action: Cell::new(""),
        script_ctx: RefCell::new(None),
        at_end: RefCell::default(),
        request_id: Cell::new(None),
        queue: RefCell::default(),
        over: Cell::new(false),
        peer: Cell::new(conn.peer),
        limits: Cell::default(),
        limit_rate: Cell::new(None),
        echo: RefCell::default(),
        cpu_used_us: Cell::new(0),
    });
    if listen.names.has_patterns() {
        let host = req.host.borrow().clone();
        with_match(|data| {
            if let Some(pattern) = listen.names.pattern_of(&host, data) {
                req.keep_captures(&host, data);
                set_named(&req, pattern, &host, data);
            }
        });
    }
    if let Some((_, text)) = fault {
        req.log(Level::Info, format!("{text} while reading client request headers").as_bytes());
    }
    (req, fault.map(|(status, _)| status))
}

/// Where the server of the head's name has other rules for header lines than the default one, they are
/// read again by its rules.
fn by_rules_of_server(
    w: &Rc<Worker>,
    conn: &Rc<Conn>,
    listen: &Listen,
    head: &mut Head,
) -> Result<(), HeadError> {
    let http = w.env.http();
    if http.servers.len() == 1 {
        return Ok(());
    }
    let default = &http.servers[listen.default_server];
    conn.with_input(|raw| {
        let named = head.host.map(|s| s.of(raw)).or_else(|| {
            let host = head.headers.iter().find(|h| h.name.of(raw).eq_ignore_ascii_case(b"host"));
            host.map(|h| h.value.of(raw))
        });
        let host = named.and_then(valid_host).unwrap_or_default();
        let server = with_match(|data| http.server_of(listen, &host, data).clone());
        let same = server.ignore_invalid_headers == default.ignore_invalid_headers
            && server.underscores_in_headers == default.underscores_in_headers;
        let result = if same { Ok(()) } else { head.read_again(&raw[..head.len], &limits_of(&server)) };
        (result, 0)
    })
}

/// What limits the head of a request for this server.
fn limits_of(server: &Server) -> Limits {
    let (count, size) = server.large_client_header_buffers;
    Limits {
        line_bytes_max: size.max(server.client_header_buffer_size) as usize,
        head_bytes_max: (count * size).max(server.client_header_buffer_size) as usize,
        headers_max: usize::try_from(server.max_headers).unwrap_or(usize::MAX),
        ignore_invalid: server.ignore_invalid_headers,
        underscores: server.underscores_in_headers,
    }
}

type Fault = (u16, &'static str);

fn understand(head: &Head, headers: &Headers, m: &mut Meaning) -> Result<(), Fault> {
    let mut hosts = 0;
    let mut length: Option<u64> = None;
    let mut encoding = false;
    let mut host: &[u8] = b"";
    for (name, value) in headers.iter() {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                hosts += 1;
                host = value;
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                m.expects_continue = head.version >= 1001 && value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let has =
                    |t: &[u8]| value.split(|&b| b == b',').any(|v| v.trim_ascii().eq_ignore_ascii_case(t));
                if has(b"close") {
                    m.keepalive = false;
                } else if has(b"keep-alive") {
                    m.keepalive = head.version >= 1000;
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if length.is_some() {
                    return Err((400, "client sent duplicate header line: \"Content-Length\""));
                }
                length = Some(decimal(value).ok_or((400, "client sent invalid \"Content-Length\" header"))?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if encoding {
                    return Err((400, "client sent duplicate header line: \"Transfer-Encoding\""));
                }
                if head.version < 1001 {
                    return Err((400, "client sent HTTP/1.0 request with \"Transfer-Encoding\" header"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err((501, "client sent unknown \"Transfer-Encoding\""));
                }
                encoding = true;
            }
            _ => {}
        }
    }
    if hosts > 1 {
        return Err((400, "client sent duplicate header line: \"Host\""));
    }
    if hosts == 0 && head.version >= 1001 {
        return Err((400, "client sent HTTP/1.1 request without \"Host\" header"));
    }
    if encoding && length.is_some() {
        return Err((
            400,
            "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        ));
    }
    let named = head.host.map(|s| headers.bytes(s)).unwrap_or(host);
    if head.host.is_some() || hosts == 1 {
        m.host = valid_host(named).ok_or((400, "client sent invalid host header"))?;
    }
    if head.host.is_some() && hosts == 1 {
        valid_host(host).ok_or((400, "client sent invalid host header"))?;
    }
    m.decoder =
        if encoding { Some(Decoder::chunked()) } else { length.filter(|n| *n > 0).map(Decoder::Length) };
    if headers.bytes(head.method) == b"TRACE" {
        return Err((405, "client sent TRACE method"));
    }
    if headers.bytes(head.method) == b"CONNECT" {
        return Err((405, "client sent CONNECT method"));
    }
    Ok(())
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

/// A host in lower case without its port and trailing dot; `None` when it cannot be one.
fn valid_host(host: &[u8]) -> Option<Vec<u8>> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(b);
    let (name, port) = if let Some(rest) = host.strip_prefix(b"[") {
        let close = memchr::memchr(b']', rest)?;
        let port = match &rest[close + 1..] {
            [] => None,
            [b':', port @ ..] => Some(port),
            _ => return None,
        };
        if !rest[..close].iter().all(|b| plain(b) || *b == b':') {
            return None;
        }
        (&host[..close + 2], port)
    } else {
        let colon = memchr::memchr(b':', host);
        let name = &host[..colon.unwrap_or(host.len())];
        if !name.iter().all(|b| plain(b) || *b == b'%') {
            return None;
        }
        (name, colon.map(|n| &host[n + 1..]))
    };
    if let Some(port) = port {
        let number = port.iter().try_fold(0u32, |n, b| {
            let n = n * 10 + u32::from(b.is_ascii_digit().then(|| b - b'0')?);
            (n <= 65_535).then_some(n)
        });
        number?;
    }
    if name.windows(2).any(|w| w == b"..") {
        return None;
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_judged_as_by_nginx() {
        for (from, to) in [
            (&b"Example.COM:80"[..], Some("example.com")),
            (b"a.", Some("a")),
            (b"[::1]:8080", Some("[::1]")),
            (b"", None),
            (b"a/b", None),
            (b"a b", None),
            (b"a..b", None),
            (b":80", None),
            (b"a:8x", None),
            (b"a:99999", None),
            (b"a:", Some("a")),
            (b"a:b:c", None),
            (b"\x80", None),
            (b"u@h", None),
            (b"a%20b", Some("a%20b")),
            (b"a:8/", None),
            (b"[::1", None),
        ] {
            assert_eq!(valid_host(from).map(|h| String::from_utf8(h).unwrap()).as_deref(), to);
        }
    }
}
