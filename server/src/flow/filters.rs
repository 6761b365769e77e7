//! The output lane: header filters once, body filters per chunk, one at a time, in order.
//!
//! `submit` puts a chunk into the lane and runs it through at once when no filter
//! has to wait; else the request's driver goes on with it. `drive` is what polls
//! a request's handler, its lane and the connection's writes together.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{Worker, echo, more_headers};
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
    if res.content_type.is_none() && loc.lua_use_default_type {
        res.content_type = Some(super::files::content_type(&loc, &req.uri.borrow()));
    }
}

/// Whether a script's output is kept back to find its length: HTTP/1.0 without `Content-Length`.
pub fn gathers(req: &Rc<Request>) -> bool {
    let res = req.response.borrow();
    res.gathering
        || (req.version == 1000
            && req.is_main()
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
    {
        let mut res = req.response.borrow_mut();
        res.head = HeadState::Filtering;
        if req.err_status.get() != 0 {
            // The page of an error has the error's status, whatever its handler says.
            res.status = req.err_status.get();
        }
    }
    early_header_filters(req);
    let code = req.location().lua.get(Phase::HeaderFilter).cloned();
    match (code, &w.scripts) {
        (Some(code), Some(scripts)) => {
            let run = scripts.header_filter(req, &code);
            let r = req.clone();
            let future = Box::pin(async move {
                if let Err(status) = run.await {
                    replace_by_page(&r, status);
                }
                late_header_filters(&r);
                commit_head(&r);
            });
            req.response.borrow_mut().running = Some(future);
        }
        _ => {
            late_header_filters(req);
            commit_head(req);
        }
    }
}

/// A header filter refused the response: the page of a status takes its place.
fn replace_by_page(req: &Rc<Request>, status: u16) {
    let mut res = req.response.borrow_mut();
    res.reset_headers();
    res.status = status;
    let (_, body) = super::special::page(status, &req.location().server_tokens);
    res.content_type = Some(b"text/html".to_vec());
    res.content_length = Some(body.len() as u64);
    res.lane.clear();
    let chunk = Chunk { data: body, last: true, ..Chunk::default() };
    res.eof = true;
    res.lane.push_back(chunk);
    req.keepalive.set(false);
}

fn start_chunk(w: &Rc<Worker>, req: &Rc<Request>) {
    let mut chunk = req.response.borrow_mut().lane.pop_front().expect("the caller saw a chunk");
    if chunk.head_only {
        req.response.borrow_mut().pass();
        return;
    }
    if run_filters(req, &mut chunk, |res| &mut res.early_filters).is_err() {
        return;
    }
    let code = req.location().lua.get(Phase::BodyFilter).cloned();
    match (code, &w.scripts) {
        (Some(code), Some(scripts)) => {
            let run = scripts.body_filter(req, &code, chunk);
            let r = req.clone();
            let future = Box::pin(async move {
                match run.await {
                    Ok(chunk) => leave(&r, chunk),
                    Err(()) => {
                        r.keepalive.set(false);
                        r.response.borrow_mut().fail();
                    }
                }
            });
            req.response.borrow_mut().running = Some(future);
        }
        _ => leave(req, chunk),
    }
}

/// Takes a chunk that the scripts have seen through what is left of the way.
fn leave(req: &Rc<Request>, mut chunk: Chunk) {
    if run_filters(req, &mut chunk, |res| &mut res.filters).is_ok() {
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

/// Whether `add_header` lines without `always` apply.
fn is_good_status(status: u16) -> bool {
    matches!(status, 0 | 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

/// Header filters that run before the scripts', in nginx's order.
fn early_header_filters(req: &Rc<Request>) {
    not_modified(req);
    more_headers::change_output(req);
}

/// Header filters that run behind the scripts', in nginx's order.
fn late_header_filters(req: &Rc<Request>) {
    echo::header_filter(req);
    add_headers(req);
}

fn add_headers(req: &Rc<Request>) {
    let level = req.level.borrow().clone();
    if level.add_headers.is_empty() || !req.is_main() {
        return;
    }
    let status = req.response.borrow().status;
    for add in level.add_headers.iter() {
        if !add.always && !is_good_status(status) {
            continue;
        }
        let value = req.eval(&add.value);
        if !value.is_empty() {
            req.response.borrow_mut().add_header(&add.name, &value);
        }
    }
}

/// `If-Modified-Since` and `If-None-Match` against what the response says of itself.
fn not_modified(req: &Rc<Request>) {
    use crate::conf::settings::IfModifiedSince;
    let headers = req.headers.borrow();
    let mut res = req.response.borrow_mut();
    if !matches!(res.status, 0 | 200) || !req.is_main() || res.last_modified.is_none() {
        return;
    }
    let since = headers.get(b"if-modified-since");
    let none_match = headers.get(b"if-none-match");
    if since.is_none() && none_match.is_none() {
        return;
    }
    if let Some(since) = since {
        let rule = req.location().if_modified_since;
        let (Some(theirs), Some(ours)) = (crate::http1::clock::parse_http_time(since), res.last_modified)
        else {
            return;
        };
        let unchanged = match rule {
            IfModifiedSince::Off => false,
            IfModifiedSince::Exact => theirs == ours,
            IfModifiedSince::Before => theirs >= ours,
        };
        if !unchanged {
            return;
        }
    }
    if let Some(list) = none_match {
        let etag = res.headers.get(b"etag");
        let weak = |t: &[u8]| t.strip_prefix(b"W/").unwrap_or(t).to_vec();
        let found = list.trim_ascii() == b"*"
            || etag.is_some_and(|e| list.split(|&b| b == b',').any(|t| weak(t.trim_ascii()) == weak(e)));
        if !found {
            return;
        }
    }
    res.status = 304;
    res.content_type = None;
    res.content_length = None;
    res.headers.remove(b"accept-ranges");
}

/// Polls a request's work together with its lane and its writes.
pub async fn drive<F: Future<Output = ()>>(w: &Rc<Worker>, req: &Rc<Request>, work: F) {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| poll_drive(w, req, work.as_mut(), cx)).await;
}

fn poll_drive<F: Future<Output = ()>>(
    w: &Rc<Worker>,
    req: &Rc<Request>,
    work: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    crate::http1::clock::update();
    req.response.borrow_mut().set_driver(cx.waker());
    let done = work.poll(cx);
    run_lane(w, req, Some(cx));
    if done.is_ready() {
        return done;
    }
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

/// Ready when everything submitted has gone through the filters and out to the client (or into memory).
pub async fn finish(req: &Rc<Request>) {
    std::future::poll_fn(|cx| {
        let mut res = req.response.borrow_mut();
        // What an inner request still has in its queue goes out when its turn comes.
        let waits = !matches!(res.sink, Sink::Parent) && !req.queue.borrow().is_empty();
        if !res.failed && (!res.is_quiet() || waits) {
            // Woken by the lane, which is polled by the same driver.
            res.watch(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
    if !matches!(req.response.borrow().sink, Sink::Client) {
        return;
    }
    let timeout = req.location().send_timeout;
    let mut left = usize::MAX;
    std::future::poll_fn(|cx| match req.conn.poll_flush(cx) {
        Poll::Ready(r) => {
            if r.is_err() {
                req.gone.set(true);
                req.keepalive.set(false);
            }
            Poll::Ready(())
        }
        Poll::Pending => {
            let now = req.conn.output_len();
            if now < left {
                left = now;
                req.conn.arm(timeout);
            }
            if req.conn.poll_deadline(cx) {
                req.log(crate::conf::model::Level::Info, b"client timed out");
                req.conn.break_off();
                req.gone.set(true);
                req.keepalive.set(false);
                return Poll::Ready(());
            }
            Poll::Pending
        }
    })
    .await;
    req.conn.disarm();
}
