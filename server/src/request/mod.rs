//! The state of one request: what came in, what goes out, its variables.
//!
//! A `Request` is shared as `Rc`; its parts are cells, borrowed shortly and
//! never across a wait or a call into a script. Knows configuration and wire,
//! not phases, filters or Lua.

pub mod args;
pub mod body;
pub mod escape;
pub mod guards;
pub mod headers;
pub mod postpone;
pub mod response;
pub mod spare;
mod ssl_vars;
pub mod subrequest;
pub mod upstream;
pub mod uri;
pub mod vars;

use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::conf::model::{Config, HttpConf, Level, Location, Server};
use crate::conf::variables::VarId;
use crate::counters::Counters;
use crate::http1::conn::Conn;
use crate::http1::parse::Span;
use crate::log::Logs;
use crate::phase::Phase;
use crate::regex::MatchData;

use body::{Body, Incoming};
use headers::Headers;
use response::Response;
use vars::Captures;

/// What all requests of a worker share.
pub struct Env {
    /// The configuration.
    pub config: Arc<Config>,
    /// The logs.
    pub logs: Arc<Logs>,
    /// The machine's name, for `$hostname`.
    pub hostname: String,
    /// Counters for `stub_status`.
    pub stats: Stats,
    /// The worker takes no new requests: responses say `Connection: close`.
    pub exiting: Cell<bool>,
    /// Requests logged since the C heap was last trimmed.
    pub untrimmed: Cell<u64>,
}

/// What `stub_status` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Connections accepted.
    Accepted,
    /// Requests begun.
    Requests,
    /// Connections open now.
    Active,
    /// Connections that are reading a request head.
    Reading,
    /// Connections that handle a request.
    Writing,
}

/// The counters of the whole server, and a worker's place in them.
pub struct Stats {
    counters: Arc<Counters>,
    place: usize,
}

impl Stats {
    /// For the worker of that number.
    pub fn new(counters: Arc<Counters>, worker: usize) -> Stats {
        Stats { counters, place: worker }
    }

    /// Counts.
    pub fn add(&self, stat: Stat, n: i64) {
        self.counters.add(self.place, stat as usize, n);
    }

    /// What all workers have counted.
    pub fn get(&self, stat: Stat) -> u64 {
        self.counters.sum(stat as usize)
    }
}

impl Env {
    /// The shared state of a worker that has just begun.
    pub fn new(config: Arc<Config>, logs: Arc<Logs>, stats: Stats) -> Env {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Env {
            config,
            logs,
            hostname: hostname.trim_end().to_ascii_lowercase(),
            stats,
            exiting: Cell::new(false),
            untrimmed: Cell::new(0),
        }
    }

    /// The `http {}` block. Requests exist only where there is one.
    pub fn http(&self) -> &HttpConf {
        self.config.http.as_ref().expect("a connection was accepted for a server of http {}")
    }
}

thread_local! {
    static MATCH: RefCell<MatchData> = RefCell::new(MatchData::new());
}

/// Buffers above this capacity are not kept from one request to the next.
const KEPT_BYTES_MAX: usize = 4096;

/// Empties a buffer; its memory stays unless it is much.
fn trim(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEPT_BYTES_MAX {
        *buffer = Vec::new();
    }
}

/// Runs `f` with the worker's match data.
pub fn with_match<R>(f: impl FnOnce(&mut MatchData) -> R) -> R {
    MATCH.with_borrow_mut(f)
}

/// What `echo` commands keep from one to the next.
#[derive(Debug, Default)]
pub struct EchoState {
    /// The item of `echo_foreach_split` that is at hand: `$echo_it`.
    pub item: Option<Vec<u8>>,
    /// How often `$echo_incr` was asked for; counted in the main request.
    pub counter: u64,
    /// When `$echo_timer_elapsed` began; 0 is the request's start.
    pub timer_ms: u64,
}

/// What the limits have said about a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOutcome {
    /// `$limit_req_status`.
    pub req: Option<&'static str>,
    /// `$limit_conn_status`.
    pub conn: Option<&'static str>,
}

/// One request.
pub struct Request {
    /// Its number in this process: no other one has it, also where the memory is used again.
    pub id: u64,
    /// The worker's shared state.
    pub env: Rc<Env>,
    /// The connection.
    pub conn: Rc<Conn>,
    /// The request that asked for this one.
    pub parent: Option<Rc<Request>>,
    /// The server.
    pub server: RefCell<Arc<Server>>,
    /// The location, or the server's level before one is found.
    pub level: RefCell<Arc<Location>>,
    /// When it began, wall clock.
    pub start_ms: u64,
    /// The method.
    pub method: RefCell<Vec<u8>>,
    /// Version: 1001 for HTTP/1.1, 9 for HTTP/0.9.
    pub version: u32,
    /// The request line as sent.
    pub line: Span,
    /// The target as sent, for `$request_uri`.
    pub target: Span,
    /// Bytes of the head as sent; they begin the buffer of `headers`.
    pub head_len: usize,
    /// The headers.
    pub headers: RefCell<Headers>,
    /// Host name in lower case, without port.
    pub host: RefCell<Vec<u8>>,
    /// The normalised path.
    pub uri: RefCell<Vec<u8>>,
    /// The query.
    pub args: RefCell<Vec<u8>>,
    /// The query was set by the configuration or a script: an empty one is a value then.
    pub args_given: Cell<bool>,
    /// The path was changed since the location was looked up.
    pub uri_changed: Cell<bool>,
    /// Internal redirects that are still allowed.
    pub redirects_left: Cell<u8>,
    /// Too many internal redirects were made.
    pub cycled: Cell<bool>,
    /// The request was redirected internally (or is a subrequest): `internal` locations are open.
    pub internal: Cell<bool>,
    /// An error page is being made; there is none for its errors.
    pub error_page: Cell<bool>,
    /// The status that an error page keeps.
    pub err_status: Cell<u16>,
    /// The connection may serve another request after this one.
    pub keepalive: Cell<bool>,
    /// What is in the connection's output is to be sent even if it is little.
    pub flushing: Cell<bool>,
    /// The client is gone.
    pub gone: Cell<bool>,
    /// The body on the wire.
    pub incoming: RefCell<Incoming>,
    /// The body once read.
    pub body: RefCell<Body>,
    /// The response.
    pub response: RefCell<Response>,
    /// Bytes of the response's head.
    pub header_bytes: Cell<u64>,
    /// `set` variables and values of maps, by variable number.
    pub slots: Rc<RefCell<Vec<Option<Vec<u8>>>>>,
    /// Variables that a script has taken the value away from.
    pub unset: RefCell<Vec<VarId>>,
    /// Captures of the last expression.
    pub captures: RefCell<Captures>,
    /// The phase that runs.
    pub phase: Cell<Phase>,
    /// The servers that the request was passed on to.
    pub upstream: RefCell<Option<Box<upstream::UpstreamInfo>>>,
    /// The path still belongs to the location found for it: no `rewrite ... break` changed it.
    pub location_valid: Cell<bool>,
    /// What is being done for the request, for the log.
    pub action: Cell<&'static str>,
    /// What the script layer keeps with a request (`ngx.ctx`). Gone after an internal redirect.
    pub script_ctx: RefCell<Option<Box<dyn Any>>>,
    /// What ends with the request: dropped when it is over.
    pub at_end: RefCell<Vec<Box<dyn Any>>>,
    /// Number for `$request_id`, made on demand.
    pub request_id: Cell<Option<u128>>,
    /// Output that waits for its turn among subrequests.
    pub queue: RefCell<postpone::Queue>,
    /// The request has produced everything.
    pub over: Cell<bool>,
    /// The client's address; another than the connection's where a trusted proxy told it.
    pub peer: Cell<Option<SocketAddr>>,
    /// What `limit_req` and `limit_conn` have said; kept in the main request.
    pub limits: Cell<LimitOutcome>,
    /// `$limit_rate` as it was assigned: bytes per second.
    pub limit_rate: Cell<Option<u64>>,
    /// What `echo` commands keep.
    pub echo: RefCell<EchoState>,
    /// Time on CPU that scripts have used so far, in microseconds; kept in the main request.
    pub cpu_used_us: Cell<i64>,
}

impl Request {
    /// The location in force.
    pub fn location(&self) -> Ref<'_, Location> {
        Ref::map(self.level.borrow(), |l| &**l)
    }

    /// The main request of a tree of subrequests.
    pub fn is_main(&self) -> bool {
        self.parent.is_none()
    }

    /// Whether the method is HEAD.
    pub fn is_head(&self) -> bool {
        *self.method.borrow() == b"HEAD"
    }

    /// The main request of the tree this one belongs to.
    pub fn main(&self) -> &Request {
        let mut at = self;
        while let Some(parent) = &at.parent {
            at = parent;
        }
        at
    }

    /// Whether the head of the response is on its way.
    pub fn head_sent(&self) -> bool {
        self.response.borrow().head == response::HeadState::Sent
    }

    /// Whether lines of level debug are written anywhere: only then are they worth making.
    pub fn debugging(&self) -> bool {
        self.location().error_logs.iter().any(|log| log.level == Level::Debug)
    }

    /// The client has taken too long: the connection ends, with `reset_timedout_connection` at once.
    pub fn timed_out(&self) {
        if self.location().reset_timedout_connection {
            self.conn.reset_on_close();
        }
    }

    /// Logs a line with the request's context behind it (at level debug without, as nginx does).
    pub fn log(&self, level: Level, text: &[u8]) {
        let to = self.location().error_logs.clone();
        if !self.env.logs.enabled(&to, level) {
            return;
        }
        if level == Level::Debug {
            self.env.logs.error(&to, level, Some(self.conn.serial), text);
            return;
        }
        let mut line = text.to_vec();
        let action = if self.phase.get() == Phase::Log { "logging request" } else { self.action.get() };
        if !action.is_empty() {
            line.extend_from_slice(b" while ");
            line.extend_from_slice(action.as_bytes());
        }
        self.append_log_context(&mut line);
        self.env.logs.error(&to, level, Some(self.conn.serial), &line);
    }

    /// Appends `, client: ..., server: ..., request: "...", host: "..."`.
    pub fn append_log_context(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b", client: ");
        self.write_remote_addr(line);
        line.extend_from_slice(b", server: ");
        line.extend_from_slice(self.server.borrow().name.as_bytes());
        let headers = self.headers.borrow();
        line.extend_from_slice(b", request: \"");
        line.extend_from_slice(headers.bytes(self.line));
        line.push(b'"');
        if let Some(parent) = &self.parent {
            line.extend_from_slice(b", subrequest: \"");
            line.extend_from_slice(&self.uri.borrow());
            line.push(b'"');
            let _ = parent;
        }
        if let Some(up) = &*self.upstream.borrow()
            && let Some(peer) = &up.peer
        {
            line.extend_from_slice(b", upstream: \"http");
            line.extend_from_slice(if up.ssl { b"s://" } else { b"://" });
            line.extend_from_slice(peer.as_bytes());
            if peer.starts_with("unix:") {
                line.push(b':');
            }
            line.extend_from_slice(&up.uri);
            line.push(b'"');
        }
        if let Some(host) = headers.get(b"host") {
            line.extend_from_slice(b", host: \"");
            line.extend_from_slice(host);
            line.push(b'"');
        }
        if let Some(referer) = headers.get(b"referer") {
            line.extend_from_slice(b", referrer: \"");
            line.extend_from_slice(referer);
            line.push(b'"');
        }
    }

    /// Appends the client's address.
    pub fn write_remote_addr(&self, out: &mut Vec<u8>) {
        match self.peer.get() {
            Some(a) => out.extend_from_slice(a.ip().to_canonical().to_string().as_bytes()),
            None => out.extend_from_slice(b"unix:"),
        }
    }

    /// Lets the connection send no faster than `limit_rate` says.
    pub fn start_throttle(&self) {
        if self.limit_rate.get().is_none() && self.location().filters.limit_rate.is_none() {
            return;
        }
        let level = self.level.borrow().clone();
        let number = |script: &Option<crate::conf::variables::Script>| {
            script.as_ref().and_then(|s| crate::conf::value::size(&self.eval(s))).unwrap_or(0)
        };
        let rate = self.limit_rate.get().unwrap_or_else(|| number(&level.filters.limit_rate));
        if rate > 0 {
            self.conn.throttle(rate, number(&level.filters.limit_rate_after));
        }
    }

    /// Sets the location in force.
    pub fn set_level(&self, level: Arc<Location>) {
        *self.level.borrow_mut() = level;
    }

    /// Forgets what belongs to the location that is left by an internal redirect.
    pub fn clear_for_redirect(&self) {
        self.internal.set(true);
        self.script_ctx.borrow_mut().take();
    }

    /// Remembers the captures of an expression that has just matched `subject`.
    pub fn keep_captures(&self, subject: &[u8], data: &MatchData) {
        self.captures.borrow_mut().set(subject, data);
    }

    /// Evaluates a script of the configuration.
    pub fn eval(&self, script: &crate::conf::variables::Script) -> Vec<u8> {
        match script.as_literal() {
            Some(text) => text.to_vec(),
            None => script.text(&mut vars::Vars(self)),
        }
    }

    /// The absolute form of a `Location` that begins with a slash, if it is to be made absolute.
    pub fn absolute_location(&self, location: &[u8]) -> Option<Vec<u8>> {
        let loc = self.location();
        if !location.starts_with(b"/") || location.starts_with(b"//") || !loc.absolute_redirect {
            return None;
        }
        let (scheme, usual_port): (&[u8], _) =
            if self.conn.secured.get().is_some() { (b"https://", 443) } else { (b"http://", 80) };
        let mut out = scheme.to_vec();
        let server = self.server.borrow();
        let host = self.host.borrow();
        if loc.server_name_in_redirect && !server.name.is_empty() {
            out.extend_from_slice(server.name.as_bytes());
        } else if host.is_empty() {
            match self.conn.local {
                Some(a) => out.extend_from_slice(a.ip().to_string().as_bytes()),
                None => out.extend_from_slice(b"localhost"),
            }
        } else {
            out.extend_from_slice(&host);
        }
        if let (true, Some(local)) = (loc.port_in_redirect, self.conn.local)
            && local.port() != usual_port
        {
            out.extend_from_slice(format!(":{}", local.port()).as_bytes());
        }
        out.extend_from_slice(location);
        Some(out)
    }
}
