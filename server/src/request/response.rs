//! The response of a request: status, headers, and the lane its output goes through.
//!
//! Writers submit chunks; the filters take them one at a time in order (`flow`
//! runs them); what comes out is framed and put into the connection's output.
//! Knows no filter.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Request;
use super::headers::Headers;
use crate::http1::body::{write_chunk_head, write_last_chunk};
use crate::http1::write::{Connection, ResponseHead, finish, line};

/// How far the head has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadState {
    /// Nothing has been sent; headers may change.
    #[default]
    Open,
    /// The header filters run.
    Filtering,
    /// It is on its way.
    Sent,
}

/// A piece of output.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// The bytes.
    pub data: Vec<u8>,
    /// The response ends with it.
    pub last: bool,
    /// It is to be sent without waiting for more.
    pub flush: bool,
    /// It carries nothing: only the head is to be sent. Body filters do not see it.
    pub head_only: bool,
}

/// Where the response goes.
#[derive(Debug, Default)]
pub enum Sink {
    /// To the client.
    #[default]
    Client,
    /// Into memory, for the request that asked for it.
    Memory(Vec<u8>),
    /// In its order into the response of the request that asked for it.
    Parent,
}

/// What runs in the lane.
pub type LaneFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A step on the body's way out. It may hold bytes back until the last chunk.
pub trait BodyFilter {
    /// Changes a chunk. The error is a line for the log; the output ends.
    fn run(&mut self, req: &Rc<Request>, chunk: &mut Chunk) -> Result<(), &'static str>;
}

/// The response.
#[derive(Default)]
pub struct Response {
    /// Status; 0 while nobody has set it.
    pub status: u16,
    /// The status is 0 because `return 0` says so.
    pub zero_status: bool,
    /// Reason phrase instead of the usual one.
    pub reason: Option<Vec<u8>>,
    /// `Content-Type`.
    pub content_type: Option<Vec<u8>>,
    /// Length of the body, when known.
    pub content_length: Option<u64>,
    /// `Last-Modified` in seconds since 1970.
    pub last_modified: Option<i64>,
    /// All other headers.
    pub headers: Headers,
    /// How far the head has come.
    pub head: HeadState,
    /// How much smaller `gzip` has made the body, in hundredths.
    pub gzip_ratio: Option<u64>,
    /// `Server` is not sent.
    pub hide_server: bool,
    /// `Date` is not sent.
    pub hide_date: bool,
    /// `Vary: Accept-Encoding` is sent where `gzip_vary` asks for it.
    pub vary_gzip: bool,
    /// Header lines behind the body are to come.
    pub expects_trailers: bool,
    /// Header lines behind the body.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Parts of the body may be asked for.
    pub allow_ranges: bool,
    /// The one part of the body that was asked for: a filter in front of all others lets only it through.
    pub part: Option<(u64, u64)>,
    /// Filters before the scripts see a chunk.
    pub early_filters: Vec<Box<dyn BodyFilter>>,
    /// Filters behind the scripts.
    pub filters: Vec<Box<dyn BodyFilter>>,
    /// Filters of everything that goes out, the output of subrequests included.
    pub outer_filters: Vec<Box<dyn BodyFilter>>,
    /// A script has taken the type away: there is no default one.
    pub no_default_type: bool,
    /// Conditions of the request do not count.
    pub unconditional: bool,
    /// The body is not sent: HEAD, 204, 304.
    pub header_only: bool,
    /// The body goes out in chunks.
    pub chunked: bool,
    /// `Location` is the server's own: a path in it is made absolute.
    pub own_location: bool,
    /// There is no head: what an upstream server sent is passed on as it came.
    pub bare: bool,
    /// The handler has ended its output.
    pub eof: bool,
    /// A script has the connection for itself: nobody else writes to it.
    pub taken: bool,
    /// The last chunk has gone through the filters.
    pub done: bool,
    /// Whether HTTP/1.0 output is being gathered for its length.
    pub gathering: bool,
    /// What has been gathered.
    pub gathered: Vec<u8>,
    /// A filter failed: there is no more output.
    pub failed: bool,
    /// A header filter refused it: the status that takes its place.
    pub refused: Option<u16>,
    /// Filters of scripts are not run: they have said what they had to.
    pub skip_scripts: bool,
    /// Bytes of the body sent.
    pub body_bytes_sent: u64,
    /// Where it goes.
    pub sink: Sink,
    /// Chunks that wait for the lane.
    pub lane: VecDeque<Chunk>,
    /// What runs in the lane now.
    pub running: Option<LaneFuture>,
    /// Chunks submitted and chunks that came through; a writer waits until they meet.
    submitted: u64,
    passed: u64,
    waiters: Vec<Waker>,
    driver: Option<Waker>,
    /// The driver runs now.
    driving: bool,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Response {
    /// A response that goes into the one of the request that asked for it.
    pub fn into_parent() -> Response {
        Response { sink: Sink::Parent, ..Response::default() }
    }

    /// Makes it a new response to the client; the memory of small buffers stays. Every part is named, so that
    /// none is forgotten.
    pub fn clear(&mut self) {
        let Response {
            status,
            zero_status,
            reason,
            content_type,
            content_length,
            last_modified,
            headers,
            head,
            gzip_ratio,
            hide_server,
            hide_date,
            vary_gzip,
            expects_trailers,
            trailers,
            allow_ranges,
            part,
            early_filters,
            filters,
            outer_filters,
            no_default_type,
            unconditional,
            header_only,
            chunked,
            own_location,
            bare,
            eof,
            taken,
            done,
            gathering,
            gathered,
            failed,
            refused,
            skip_scripts,
            body_bytes_sent,
            sink,
            lane,
            running,
            submitted,
            passed,
            waiters,
            driver,
            driving,
        } = self;
        *running = None;
        early_filters.clear();
        filters.clear();
        outer_filters.clear();
        waiters.clear();
        *driver = None;
        *driving = false;
        (*status, *reason, *content_type, *content_length) = (0, None, None, None);
        (*last_modified, *part, *gzip_ratio) = (None, None, None);
        headers.trim();
        *head = HeadState::Open;
        trailers.clear();
        for flag in [
            zero_status,
            hide_server,
            hide_date,
            vary_gzip,
            expects_trailers,
            allow_ranges,
            no_default_type,
            unconditional,
            header_only,
            chunked,
            own_location,
            bare,
            eof,
            taken,
            done,
            gathering,
            failed,
            skip_scripts,
        ] {
            *flag = false;
        }
        super::trim(gathered);
        *refused = None;
        *body_bytes_sent = 0;
        *sink = Sink::Client;
        lane.clear();
        (*submitted, *passed) = (0, 0);
    }

    /// Puts a chunk into the lane; returns its ticket.
    pub fn submit(&mut self, chunk: Chunk) -> u64 {
        self.eof |= chunk.last;
        self.lane.push_back(chunk);
        self.submitted += 1;
        self.wake_driver();
        self.submitted
    }

    /// Whether the chunk of that ticket has come through.
    pub fn has_passed(&self, ticket: u64) -> bool {
        self.passed >= ticket || self.failed
    }

    /// A chunk has come through the filters.
    pub fn pass(&mut self) {
        self.passed += 1;
        self.waiters.drain(..).for_each(Waker::wake);
    }

    /// Only status and headers are wanted; nothing of the body is kept.
    pub fn only_head(&mut self) {
        self.sink = Sink::Memory(Vec::new());
        self.header_only = true;
    }

    /// Wakes whoever waits for the lane to be quiet.
    pub fn wake(&mut self) {
        self.waiters.drain(..).for_each(Waker::wake);
        self.wake_driver();
    }

    /// Throws away what waits: it counts as gone through.
    pub fn drop_lane(&mut self) {
        self.passed += self.lane.len() as u64;
        self.lane.clear();
        self.wake();
    }

    /// The response is not to be: nothing of it goes out, another one begins with this status.
    pub fn refuse(&mut self, status: u16) {
        self.refused = Some(status);
        self.drop_lane();
    }

    /// Takes the status that a refused response is to be begun anew with, and makes it ready for that.
    pub fn take_refusal(&mut self) -> Option<u16> {
        let status = self.refused.take()?;
        if status == 416 {
            // What was said about the content stays, but for its validators.
            self.last_modified = None;
            self.clear_ranges();
            self.clear_length();
            self.headers.remove(b"etag");
        } else {
            self.reset_headers();
        }
        self.part = None;
        self.early_filters.clear();
        self.filters.clear();
        self.outer_filters.clear();
        self.head = HeadState::Open;
        self.header_only = false;
        self.eof = false;
        self.done = false;
        self.gathering = false;
        self.gathered.clear();
        if let Sink::Memory(bytes) = &mut self.sink {
            bytes.clear();
        }
        Some(status)
    }

    /// The lane is closed: whoever waits learns it.
    pub fn fail(&mut self) {
        self.failed = true;
        self.lane.clear();
        self.waiters.drain(..).for_each(Waker::wake);
    }

    /// Ready when the chunk of that ticket has come through; false when the output failed.
    pub fn poll_passed(&mut self, cx: &mut Context<'_>, ticket: u64) -> Poll<bool> {
        if self.has_passed(ticket) {
            return Poll::Ready(!self.failed);
        }
        self.watch(cx);
        Poll::Pending
    }

    /// Wakes the task when a chunk has come through.
    pub fn watch(&mut self, cx: &mut Context<'_>) {
        if !self.waiters.iter().any(|w| w.will_wake(cx.waker())) {
            self.waiters.push(cx.waker().clone());
        }
    }

    /// Whether the lane has nothing to do.
    pub fn is_quiet(&self) -> bool {
        self.running.is_none() && self.lane.is_empty()
    }

    /// Remembers whom to wake when a chunk is submitted; nobody while the driver itself runs.
    pub fn set_driver(&mut self, waker: Option<&Waker>) {
        self.driving = waker.is_none();
        match (&mut self.driver, waker) {
            (_, None) => {}
            (Some(d), Some(w)) => d.clone_from(w),
            (none, Some(w)) => *none = Some(w.clone()),
        }
    }

    fn wake_driver(&mut self) {
        if !self.driving
            && let Some(w) = self.driver.take()
        {
            w.wake();
        }
    }

    /// The response begins anew: an internal redirect or an error page takes over.
    pub fn reset_headers(&mut self) {
        self.status = 0;
        self.reason = None;
        self.content_type = None;
        self.content_length = None;
        self.last_modified = None;
        self.headers.clear();
        self.own_location = false;
        self.allow_ranges = false;
        self.vary_gzip = false;
        self.expects_trailers = false;
        self.gzip_ratio = None;
        self.hide_server = false;
        self.hide_date = false;
    }

    /// Sets `Location` to a target of the server's own.
    pub fn set_own_location(&mut self, to: &[u8]) {
        self.headers.set(b"Location", to);
        self.own_location = true;
    }

    /// The length of the body is not known any more.
    pub fn clear_length(&mut self) {
        self.content_length = None;
        self.headers.remove(b"content-length");
    }

    /// Parts of the body cannot be asked for any more.
    pub fn clear_ranges(&mut self) {
        self.allow_ranges = false;
        self.headers.remove(b"accept-ranges");
    }

    /// Adds a header with nginx's names for the special ones.
    pub fn add_header(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-type") {
            self.content_type = Some(value.to_vec());
        } else {
            self.headers.push(name, value);
        }
    }
}

/// `Server` with version, and without.
pub const SERVER_FULL: &str = "openresty/1.31.3.1";
/// `Server` of `server_tokens off`.
pub const SERVER_PLAIN: &str = "openresty";

/// Writes the head of `req`'s response into the connection's output (or only decides its framing when
/// the response goes to memory).
pub fn commit_head(req: &Rc<Request>) {
    let mut res = req.response.borrow_mut();
    let res = &mut *res;
    res.head = HeadState::Sent;
    if res.status == 0 && !res.zero_status {
        res.status = 200;
    }
    if req.is_head() || matches!(res.status, 204 | 304) || (res.status < 200 && res.status != 0) {
        res.header_only = true;
    }
    if res.status == 204 {
        res.clear_length();
        res.content_type = None;
        res.last_modified = None;
    }
    if res.last_modified.is_some() && !matches!(res.status, 200 | 206 | 304) {
        // When a page about an error was changed says nothing.
        res.last_modified = None;
        res.headers.remove(b"last-modified");
    }
    if !matches!(res.sink, Sink::Client) {
        return;
    }
    if res.bare {
        req.keepalive.set(false);
        return;
    }
    if req.version < 1000 {
        // HTTP/0.9 has no head.
        return;
    }
    let loc = req.location();
    let explicit_length = res.headers.get(b"content-length").is_some();
    let upgrade = res.status == 101;
    let can_chunk = req.version >= 1001 && loc.chunked_transfer_encoding;
    if res.expects_trailers && can_chunk && !upgrade && !res.header_only {
        res.clear_length();
    }
    let explicit_length = explicit_length && res.headers.get(b"content-length").is_some();
    if res.content_length.is_none() && !explicit_length && !upgrade && !res.header_only {
        if can_chunk {
            res.chunked = true;
        } else {
            req.keepalive.set(false);
        }
    }
    if req.env.exiting.get() {
        req.keepalive.set(false);
    }
    let connection = if upgrade {
        req.keepalive.set(false);
        Connection::Upgrade
    } else if req.keepalive.get() {
        Connection::KeepAlive(loc.keepalive_timeout.header_s)
    } else {
        Connection::Close
    };
    let last_modified = match res.headers.get(b"last-modified") {
        Some(_) => None,
        None => res.last_modified.map(crate::http1::clock::http_date),
    };
    let server = match (res.headers.get(b"server").is_some() || res.hide_server, &loc.server_tokens) {
        (true, _) => None,
        (false, crate::conf::settings::ServerTokens::Off) => Some(SERVER_PLAIN),
        (false, _) => Some(SERVER_FULL),
    };
    let location = match res.own_location {
        true => res.headers.get(b"location").and_then(|l| req.absolute_location(l)),
        false => None,
    };
    let head = ResponseHead {
        status: res.status,
        reason: res.reason.as_deref(),
        server: server.map(str::as_bytes),
        date: !res.hide_date && res.headers.get(b"date").is_none(),
        content_type: res.content_type.as_deref().filter(|t| !t.is_empty()),
        content_length: if explicit_length { None } else { res.content_length },
        last_modified: last_modified.as_ref().map(|text| &text[..]),
        location: location.as_deref(),
        chunked: res.chunked,
        connection,
        vary: res.vary_gzip && req.location().filters.gzip_vary,
    };
    let headers = &res.headers;
    // A client that waits for leave to send its body gets it in front of a response that is no error's: the body
    // is read and thrown away behind it.
    let leave = req.err_status.get() == 0
        && req.is_main()
        && std::mem::take(&mut req.incoming.borrow_mut().expects_continue);
    req.conn.write_with(|out| {
        if leave {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let before = out.len();
        head.write(out);
        for (name, value) in headers.iter() {
            if location.is_some() && name.eq_ignore_ascii_case(b"location") {
                continue;
            }
            line(out, name, value);
        }
        finish(out);
        req.header_bytes.set((out.len() - before) as u64);
    });
}

/// Frames a chunk that came through the filters and puts it into the connection's output.
pub fn commit_body(req: &Rc<Request>, chunk: &Chunk) {
    let mut res = req.response.borrow_mut();
    let res = &mut *res;
    if res.done {
        return;
    }
    res.done = chunk.last;
    if res.header_only {
        return;
    }
    if let Sink::Memory(body) = &mut res.sink {
        body.extend_from_slice(&chunk.data);
        return;
    }
    let chunked = res.chunked;
    res.body_bytes_sent += chunk.data.len() as u64;
    req.conn.write_with(|out| {
        if chunked && !chunk.data.is_empty() {
            let before = out.len();
            write_chunk_head(out, chunk.data.len());
            out.extend_from_slice(&chunk.data);
            out.extend_from_slice(b"\r\n");
            res.body_bytes_sent += (out.len() - before - chunk.data.len()) as u64;
        } else {
            out.extend_from_slice(&chunk.data);
        }
        if chunked && chunk.last {
            let before = out.len();
            write_last_chunk(out, &res.trailers);
            res.body_bytes_sent += (out.len() - before) as u64;
        }
    });
}
