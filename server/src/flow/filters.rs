//! The output lane: header filters once, body filters per chunk, one at a time, in order.
//!
//! `submit` puts a chunk into the lane and runs it through at once when no filter
//! has to wait; else the request's driver goes on with it. `drive` is what polls
//! a request's handler, its lane and the connection's writes together.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::engine::Course;
use super::{Worker, compress, echo, freshness, more_headers, range, substitute};
use crate::phase::Phase;
use crate::request::Request;
use crate::request::postpone;
use crate::request::response::{BodyFilter, Chunk, HeadState, Response, Sink, commit_head};

/// Puts a chunk into the lane; returns its ticket.
pub fn submit(w: &Rc<Worker>, req: &Rc<Request>, chunk: Chunk) -> u64 {
    let ticket = req.response.borrow_mut().submit(chunk);
    run_lane(w, req, None);
    ticket
}

/// Fills in what the head of a script's response needs before its first byte goes out.
pub fn prepare_head(req: &Rc<Request>) {
    let loc = req.level.borrow().clone();
    let mut res = req.response.borrow_mut();
    if res.head != HeadState::Open {
        return;
    }
    if res.status == 0 {
        res.status = 200;
    }
    let has_type = res.content_type.is_some() || res.no_default_type || matches!(res.status, 204 | 304);
    if !has_type && loc.lua_use_default_type {
        res.content_type = Some(super::files::content_type(&loc, &req.uri.borrow()));
    }
}

/// Whether a script's output is kept back to find its length: HTTP/1.0 without `Content-Length`.
pub fn gathers(req: &Rc<Request>) -> bool {
    let res = req.response.borrow();
    res.gathering
        || (req.version == 1000
            && req.is_main()
            && !req.is_head()
            && res.head == HeadState::Open
            && res.lane.is_empty()
            && res.content_length.is_none()
            && req.location().lua_http10_buffering)
}

/// Ready when the chunk of that ticket has gone through the filters; false when the output failed.
pub async fn passed(req: &Rc<Request>, ticket: u64) -> bool {
    std::future::poll_fn(|cx| req.response.borrow_mut().poll_passed(cx, ticket)).await
}

/// Runs the lane as far as it goes. Without a context only filters that never wait are run.
pub fn run_lane(w: &Rc<Worker>, req: &Rc<Request>, mut cx: Option<&mut Context<'_>>) {
    loop {
        let running = req.response.borrow_mut().running.take();
        if let Some(mut f) = running {
            let ready = match &mut cx {
                Some(cx) => f.as_mut().poll(cx).is_ready(),
                None => false,
            };
            if !ready {
                req.response.borrow_mut().running = Some(f);
                return;
            }
            continue;
        }
        let (head, has_chunk) = {
            let res = req.response.borrow();
            (res.head, !res.lane.is_empty())
        };
        if !has_chunk {
            return;
        }
        if req.response.borrow().refused.is_some() {
            req.response.borrow_mut().drop_lane();
            return;
        }
        match head {
            HeadState::Open => start_head(w, req),
            // The head filter has been taken apart by a failure: nothing more goes out.
            HeadState::Filtering => {
                req.response.borrow_mut().fail();
                return;
            }
            HeadState::Sent => start_chunk(w, req),
        }
    }
}

fn start_head(w: &Rc<Worker>, req: &Rc<Request>) {
    if req.env.http().lua.captures() {
        debug(req, "lua capture header filter, uri");
    }
    {
        let mut res = req.response.borrow_mut();
        res.head = HeadState::Filtering;
        if req.err_status.get() != 0 {
            // The page of an error has the error's status, whatever its handler says.
            res.status = req.err_status.get();
        }
    }
    if let Err(status) = early_header_filters(req) {
        refuse(req, status, false);
        return;
    }
    let code = match req.response.borrow().skip_scripts {
        true => None,
        false => req.location().lua.get(Phase::HeaderFilter).cloned(),
    };
    if code.is_some() || req.location().lua.get(Phase::BodyFilter).is_some() {
        debug(req, "lua header filter for user lua code, uri");
    }
    match (code, &w.scripts) {
        (Some(code), Some(scripts)) => {
            let run = scripts.header_filter(req, &code);
            let r = req.clone();
            let future = Box::pin(async move {
                match run.await {
                    Ok(()) => {}
                    Err(0) => {
                        break_off(&r);
                        return;
                    }
                    Err(status) => {
                        refuse(&r, status, true);
                        return;
                    }
                }
                finish_head(&r);
            });
            req.response.borrow_mut().running = Some(future);
        }
        _ => {
            finish_head(req);
        }
    }
}

/// A header filter refused the response: its handler's output is thrown away, and the engine goes on with
/// this status.
fn refuse(req: &Rc<Request>, status: u16, by_script: bool) {
    let mut res = req.response.borrow_mut();
    res.refuse(status);
    res.skip_scripts = by_script;
}

fn start_chunk(w: &Rc<Worker>, req: &Rc<Request>) {
    let mut chunk = req.response.borrow_mut().lane.pop_front().expect("the caller saw a chunk");
    if req.env.http().lua.captures() {
        debug(req, "lua capture body filter, uri");
    }
    if chunk.head_only {
        req.response.borrow_mut().pass();
        return;
    }
    if run_filters(req, &mut chunk, |res| &mut res.early_filters).is_err() {
        return;
    }
    let code = match req.response.borrow().skip_scripts {
        true => None,
        false => req.location().lua.get(Phase::BodyFilter).cloned(),
    };
    if code.is_some() {
        debug(req, "lua body filter for user lua code, uri");
    }
    match (code, &w.scripts) {
        (Some(code), Some(scripts)) => {
            let run = scripts.body_filter(req, &code, chunk);
            let r = req.clone();
            let future = Box::pin(async move {
                match run.await {
                    Ok(chunk) => leave(&r, chunk),
                    Err(()) => break_off(&r),
                }
            });
            req.response.borrow_mut().running = Some(future);
        }
        _ => leave(req, chunk),
    }
}

/// A script's filter has failed: the connection ends with what has gone out so far.
fn break_off(req: &Rc<Request>) {
    req.keepalive.set(false);
    req.response.borrow_mut().fail();
    if req.is_main() || postpone::is_inner(req) {
        req.conn.break_off();
        req.main().keepalive.set(false);
    }
}

/// Takes a chunk that the scripts have seen through what is left of the way.
fn leave(req: &Rc<Request>, mut chunk: Chunk) {
    if req.response.borrow().done {
        // A filter has ended the response already.
        req.response.borrow_mut().pass();
        return;
    }
    if run_filters(req, &mut chunk, |res| &mut res.filters).is_ok() {
        if chunk.last && req.response.borrow().expects_trailers {
            let trailers = freshness::trailers(req);
            req.response.borrow_mut().trailers = trailers;
        }
        postpone::emit(req, chunk);
        req.response.borrow_mut().pass();
    }
}

/// Runs one list of filters; `Err` when the output has failed.
fn run_filters(
    req: &Rc<Request>,
    chunk: &mut Chunk,
    list: fn(&mut Response) -> &mut Vec<Box<dyn BodyFilter>>,
) -> Result<(), ()> {
    let mut filters = std::mem::take(list(&mut req.response.borrow_mut()));
    if filters.is_empty() {
        return Ok(());
    }
    let result = filters.iter_mut().try_for_each(|f| f.run(req, chunk));
    *list(&mut req.response.borrow_mut()) = filters;
    result.map_err(|text| {
        req.log(crate::conf::model::Level::Alert, text.as_bytes());
        req.keepalive.set(false);
        req.response.borrow_mut().fail();
    })
}

/// A line for developers, with the URI in quotes.
fn debug(req: &Request, what: &str) {
    use crate::conf::model::Level;
    if req.env.logs.enabled(&req.location().error_logs, Level::Debug) {
        let text = [what.as_bytes(), b" \"", &req.uri.borrow()[..], b"\""].concat();
        req.log(Level::Debug, &text);
    }
}

/// Header filters that run before the scripts', in nginx's order. The error is a status as below.
fn early_header_filters(req: &Rc<Request>) -> Result<(), u16> {
    let result = not_modified(req);
    more_headers::change_output(req);
    result
}

/// Header filters that run behind the scripts', in nginx's order. The error is the status of the page
/// that takes the response's place.
fn late_header_filters(req: &Rc<Request>) -> Result<(), u16> {
    let (around, fresh, gunzip, sub, charset, gzip) = {
        let level = req.location();
        let parts = &level.parts;
        (
            !parts.echo_before.is_empty() || !parts.echo_after.is_empty(),
            freshness::has_lines(&level),
            level.filters.gunzip,
            !parts.sub_filters.is_empty(),
            level.filters.charset.is_some(),
            level.filters.gzip,
        )
    };
    if around {
        echo::header_filter(req);
    }
    if fresh {
        freshness::header_filter(req);
    }
    if gunzip {
        compress::gunzip_header_filter(req);
    }
    if sub {
        substitute::sub_header_filter(req);
    }
    if charset {
        substitute::charset_header_filter(req);
    }
    if gzip {
        compress::gzip_header_filter(req);
    }
    range::header_filter(req)
}

/// What is left when the scripts have seen the head: the other filters, then it goes out.
fn finish_head(req: &Rc<Request>) {
    if req.is_main() {
        req.start_throttle();
    }
    match late_header_filters(req) {
        Ok(()) => commit_head(req),
        Err(status) => refuse(req, status, false),
    }
}

/// Conditions of the request against what the response says of itself: 412 where one fails, 304 where
/// the client has it already.
fn not_modified(req: &Rc<Request>) -> Result<(), u16> {
    use crate::conf::settings::IfModifiedSince;
    use crate::http1::clock::parse_http_time;
    const CONDITIONS: [&[u8]; 4] =
        [b"if-modified-since", b"if-none-match", b"if-match", b"if-unmodified-since"];
    let headers = req.headers.borrow();
    if CONDITIONS.iter().all(|name| headers.get(name).is_none()) {
        return Ok(());
    }
    let mut res = req.response.borrow_mut();
    if res.status != 200 || !req.is_main() || res.unconditional {
        return Ok(());
    }
    let has_tag = |list: &[u8], weak: bool| {
        let plain = |t: &[u8]| t.strip_prefix(b"W/").unwrap_or(t).to_vec();
        list.trim_ascii() == b"*"
            || res.headers.get(b"etag").is_some_and(|e| {
                list.split(|&b| b == b',')
                    .map(<[u8]>::trim_ascii)
                    .any(|t| if weak { plain(t) == plain(e) } else { t == e && !e.starts_with(b"W/") })
            })
    };
    let rule = req.location().if_modified_since;
    if let (Some(limit), true) = (headers.get(b"if-unmodified-since"), rule != IfModifiedSince::Off)
        && let Some(ours) = res.last_modified
        && parse_http_time(limit).is_none_or(|limit| ours > limit)
    {
        return Err(412);
    }
    if headers.get(b"if-match").is_some_and(|list| !has_tag(list, false)) {
        return Err(412);
    }
    let since = headers.get(b"if-modified-since");
    let none_match = headers.get(b"if-none-match");
    if since.is_none() && none_match.is_none() {
        return Ok(());
    }
    if let Some(since) = since {
        let (Some(theirs), Some(ours)) = (parse_http_time(since), res.last_modified) else { return Ok(()) };
        let unchanged = match rule {
            IfModifiedSince::Off => false,
            IfModifiedSince::Exact => theirs == ours,
            IfModifiedSince::Before => theirs >= ours,
        };
        if !unchanged {
            return Ok(());
        }
    }
    if none_match.is_some_and(|list| !has_tag(list, true)) {
        return Ok(());
    }
    res.status = 304;
    res.content_type = None;
    res.clear_length();
    res.clear_ranges();
    res.headers.remove(b"content-encoding");
    Ok(())
}

/// Leads a request through its phases together with its lane and its writes.
pub async fn drive(w: &Rc<Worker>, req: &Rc<Request>) {
    let mut course = Course::new(None);
    std::future::poll_fn(|cx| {
        crate::http1::clock::update();
        poll_drive(w, req, &mut course, cx)
    })
    .await;
}

/// One poll of `drive`.
pub fn poll_drive(w: &Rc<Worker>, req: &Rc<Request>, course: &mut Course, cx: &mut Context<'_>) -> Poll<()> {
    // Whatever is submitted while this runs goes through the lane before it ends: nobody need be woken.
    req.response.borrow_mut().set_driver(None);
    let done = course.poll(w, req, cx);
    run_lane(w, req, Some(cx));
    if done.is_ready() {
        return done;
    }
    req.response.borrow_mut().set_driver(Some(cx.waker()));
    if matches!(req.response.borrow().sink, Sink::Client) {
        let waiting = req.conn.output_len() as u64;
        if waiting > 0 && (req.flushing.get() || waiting >= req.location().postpone_output) {
            if let Poll::Ready(r) = req.conn.poll_flush(cx) {
                req.flushing.set(false);
                if r.is_err() {
                    req.gone.set(true);
                }
            }
        }
    }
    Poll::Pending
}

/// The end of a response: until everything submitted has gone through the filters and out to the client
/// (or into memory).
#[derive(Default)]
pub struct Ending {
    /// Everything has gone through the filters.
    through: bool,
    /// Bytes that waited for the client when it was last looked at.
    left: Option<usize>,
}

impl Ending {
    /// Ready when it is reached.
    pub fn poll(&mut self, req: &Rc<Request>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.through {
            let mut res = req.response.borrow_mut();
            // What an inner request still has in its queue goes out when its turn comes.
            let waits = !matches!(res.sink, Sink::Parent) && !req.queue.borrow().is_empty();
            if !res.failed && (!res.is_quiet() || waits) {
                // Woken by the lane, which is polled by the same driver.
                res.watch(cx);
                return Poll::Pending;
            }
            self.through = true;
        }
        if !matches!(req.response.borrow().sink, Sink::Client) {
            return Poll::Ready(());
        }
        if let Poll::Ready(r) = req.conn.poll_flush(cx) {
            if r.is_err() {
                req.gone.set(true);
                req.keepalive.set(false);
            }
            if self.left.is_some() {
                req.conn.disarm();
            }
            return Poll::Ready(());
        }
        let now = req.conn.output_len();
        if self.left.is_none_or(|left| now < left) {
            self.left = Some(now);
            req.conn.arm(req.location().send_timeout);
        }
        if !req.conn.poll_deadline(cx) {
            return Poll::Pending;
        }
        req.log(crate::conf::model::Level::Info, b"client timed out (110: Connection timed out)");
        req.timed_out();
        req.conn.break_off();
        req.gone.set(true);
        req.keepalive.set(false);
        req.conn.disarm();
        Poll::Ready(())
    }
}
