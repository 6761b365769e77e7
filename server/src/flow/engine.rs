//! The phases of a request, in order, with their loops: redirects, error pages, log.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::filters::{finish, submit};
use super::special::{After, respond};
use super::{Run, Verdict, Wait, Worker, access, echo, files, limits, more_headers, realip, rewrite};
use crate::conf::model::{Content, Level, Location, LuaCode};
use crate::phase::Phase;
use crate::request::body::{Body, bytes_to_path};
use crate::request::escape::{Place, escape};
use crate::request::response::Chunk;
use crate::request::vars::{Vars, set_named};
use crate::request::{Request, postpone, with_match};

/// Where the phases are entered.
enum Entry {
    /// From the server's rewrite phase.
    Start,
    /// In the location already set: from its rewrite phase.
    Located,
    /// With this status instead of any phase.
    Status(u16),
}

/// Leads a request through all its phases until its response is out. The log phase is not among them.
pub async fn run(w: &Rc<Worker>, req: &Rc<Request>, first_status: Option<u16>) {
    let mut entry = first_status.map_or(Entry::Start, Entry::Status);
    loop {
        phases(w, req, entry).await;
        if let Some(scripts) = &w.scripts {
            scripts.end(req);
        }
        end_output(w, req);
        finish(req).await;
        // A header filter may have refused the response: another takes its place.
        let refused = req.response.borrow_mut().take_refusal();
        match refused {
            Some(status) if !req.gone.get() => entry = Entry::Status(status),
            _ => break,
        }
    }
    postpone::finished(req);
}

/// Runs a handler until it is done or a header filter has refused what it made.
async fn unless_refused(req: &Rc<Request>, handler: impl Future<Output = Verdict>) -> Verdict {
    let mut handler = std::pin::pin!(handler);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(verdict) = handler.as_mut().poll(cx) {
            return Poll::Ready(verdict);
        }
        if req.response.borrow().refused.is_some() {
            return Poll::Ready(Verdict::Done);
        }
        Poll::Pending
    })
    .await
}

/// From an entry to the end of a handler whose output stands.
async fn phases(w: &Rc<Worker>, req: &Rc<Request>, mut entry: Entry) {
    loop {
        let verdict = match entry {
            Entry::Start => unless_refused(req, from_start(w, req)).await,
            Entry::Located => unless_refused(req, from_rewrite(w, req)).await,
            Entry::Status(s) => Verdict::Status(s),
        };
        let verdict = match verdict {
            Verdict::Status(s @ (408 | 444 | 499)) => {
                // No answer is sent, but the log shows why.
                req.err_status.set(s);
                Verdict::Close
            }
            Verdict::Status(s) => match respond(w, req, s) {
                After::Sent => break,
                After::Go(v) => v,
            },
            v => v,
        };
        entry = match verdict {
            Verdict::Done | Verdict::Next => break,
            Verdict::Close => {
                req.keepalive.set(false);
                req.gone.set(true);
                if req.is_main() {
                    req.conn.break_off();
                }
                break;
            }
            Verdict::Internal { uri, args } => match internal_redirect(req, uri, args) {
                true => Entry::Start,
                false => Entry::Status(500),
            },
            Verdict::Named(name) => match named(req, &name) {
                true => Entry::Located,
                false => Entry::Status(500),
            },
            Verdict::UriChanged => match count_change(req) {
                true => Entry::Start,
                false => Entry::Status(500),
            },
            Verdict::Status(s) => Entry::Status(s),
        };
    }
}

/// Ends the response if its handler has not, with what was gathered for its length.
fn end_output(w: &Rc<Worker>, req: &Rc<Request>) {
    let mut res = req.response.borrow_mut();
    if res.eof || res.refused.is_some() || req.gone.get() {
        return;
    }
    let data = std::mem::take(&mut res.gathered);
    if res.gathering {
        res.gathering = false;
        res.content_length = Some(data.len() as u64);
    }
    drop(res);
    submit(w, req, Chunk { data, last: true, ..Chunk::default() });
}

/// The log phase; to be run when the response is out. It may wait without holding anybody up.
pub async fn log(w: &Rc<Worker>, req: &Rc<Request>) {
    if !req.is_main() && !req.location().log_subrequest {
        return;
    }
    trim_heap_now_and_then(req);
    let code = req.location().lua.get(Phase::Log).cloned();
    if req.env.http().lua.used[Phase::Log as usize] {
        debug_handler(req, Phase::Log);
    }
    if let (Some(code), Some(scripts)) = (code, &w.scripts) {
        req.phase.set(Phase::Log);
        scripts.log(req, &code).await;
    }
    let logs = req.location().access_logs.clone();
    for log in logs.iter() {
        if let Some(condition) = &log.condition {
            let v = req.eval(condition);
            if v.is_empty() || v == b"0" {
                continue;
            }
        }
        let mut line = Vec::with_capacity(256);
        crate::log::access_line(&log.format, &mut Vars(req), &mut line);
        let Some(path) = &log.path else {
            req.env.logs.access(log, &mut line);
            continue;
        };
        line.push(b'\n');
        let path = bytes_to_path(&req.eval(path));
        if let Err(text) = crate::log::append_to(&path, &line) {
            req.log(Level::Crit, text.as_bytes());
        }
    }
}

/// `lua_malloc_trim`: after so many requests the C heap's unused pages go back to the system.
fn trim_heap_now_and_then(req: &Rc<Request>) {
    let every = req.env.http().lua.settings.lua_malloc_trim;
    if every == 0 {
        if req.location().lua.get(Phase::Log).is_none() {
            return;
        }
        req.log(Level::Debug, b"malloc_trim() disabled");
        return;
    }
    let n = req.env.untrimmed.get() + 1;
    req.env.untrimmed.set(n % every);
    if n >= every {
        let some = u8::from(crate::memory::trim_heap());
        req.log(Level::Debug, format!("malloc_trim(1) returned {some}").as_bytes());
    }
}

/// Polls a future once; what is not ready is given to a task of its own.
pub async fn finish_or_detach(f: Wait<()>) {
    let mut f = Some(f);
    std::future::poll_fn(move |cx| {
        if let Some(mut now) = f.take()
            && now.as_mut().poll(cx).is_pending()
        {
            tokio::task::spawn_local(now);
        }
        Poll::Ready(())
    })
    .await;
}

/// Counts a change of the URI; false when there were too many. `what` is nginx's word for it.
fn count_redirect(req: &Rc<Request>, what: &str, target: &[u8]) -> bool {
    let left = req.redirects_left.get();
    if left == 0 {
        let mut text = format!("rewrite or internal redirection cycle while {what} \"").into_bytes();
        text.extend_from_slice(target);
        text.push(b'"');
        req.log(Level::Error, &text);
        // There is no page for this error but the built-in one: it might lead back.
        req.cycled.set(true);
        return false;
    }
    req.redirects_left.set(left - 1);
    true
}

/// Counts a change of the URI by a rewrite.
fn count_change(req: &Rc<Request>) -> bool {
    let target = req.uri.borrow().clone();
    count_redirect(req, "processing", &target)
}

fn internal_redirect(req: &Rc<Request>, uri: Vec<u8>, args: Option<Vec<u8>>) -> bool {
    *req.uri.borrow_mut() = uri;
    *req.args.borrow_mut() = args.unwrap_or_default();
    req.clear_for_redirect();
    let target = req.uri.borrow().clone();
    count_redirect(req, "internally redirecting to", &target)
}

fn named(req: &Rc<Request>, name: &[u8]) -> bool {
    req.clear_for_redirect();
    if !count_redirect(req, "redirect to named location", name) {
        return false;
    }
    let found = req.server.borrow().named.get(name).cloned();
    match found {
        Some(level) => {
            req.set_level(level);
            true
        }
        None => {
            let mut text = b"could not find named location \"".to_vec();
            text.extend_from_slice(name);
            text.push(b'"');
            req.log(Level::Error, &text);
            false
        }
    }
}

/// Runs a phase's code of the level in force, if it has any.
pub(super) async fn lua(w: &Rc<Worker>, req: &Rc<Request>, phase: Phase) -> Verdict {
    let code = req.location().lua.get(phase).cloned();
    if req.env.http().lua.used[phase as usize] {
        debug_handler(req, phase);
    }
    match code {
        Some(code) => run_code(w, req, phase, &code).await,
        None => Verdict::Next,
    }
}

/// A line for developers: a phase's handler has been reached.
fn debug_handler(req: &Rc<Request>, phase: Phase) {
    if !req.env.logs.enabled(&req.location().error_logs, Level::Debug) {
        return;
    }
    let name = match phase {
        Phase::ServerRewrite => "server rewrite",
        other => other.name(),
    };
    let mut text = format!("lua {name} handler, uri:\"").into_bytes();
    text.extend_from_slice(&req.uri.borrow());
    text.extend_from_slice(b"\" c:1");
    req.log(Level::Debug, &text);
}

async fn run_code(w: &Rc<Worker>, req: &Rc<Request>, phase: Phase, code: &Arc<LuaCode>) -> Verdict {
    let Some(scripts) = &w.scripts else { return Verdict::Status(500) };
    req.phase.set(phase);
    match scripts.run(req, phase, code) {
        Run::Ready(v) => v,
        Run::Wait(f) => f.await,
    }
}

macro_rules! unless_next {
    ($v:expr) => {
        match $v {
            Verdict::Next => {}
            other => return other,
        }
    };
}

async fn from_start(w: &Rc<Worker>, req: &Rc<Request>) -> Verdict {
    let server = req.server.borrow().clone();
    req.set_level(server.level.clone());
    req.uri_changed.set(false);
    realip::apply(req);
    if !server.rewrite.is_empty() {
        req.phase.set(Phase::ServerRewrite);
        unless_next!(rewrite::run(w, req, &server.rewrite).await);
    }
    unless_next!(lua(w, req, Phase::ServerRewrite).await);
    loop {
        req.uri_changed.set(false);
        unless_next!(find_location(req));
        let level = req.level.borrow().clone();
        unless_next!(rewrite_phase(w, req, &level).await);
        if !req.uri_changed.get() {
            break;
        }
        if !count_change(req) {
            return Verdict::Status(500);
        }
        req.set_level(server.level.clone());
    }
    from_access(w, req).await
}

/// From the rewrite phase of the location already set (a named one).
async fn from_rewrite(w: &Rc<Worker>, req: &Rc<Request>) -> Verdict {
    req.uri_changed.set(false);
    let level = req.level.borrow().clone();
    unless_next!(rewrite_phase(w, req, &level).await);
    if req.uri_changed.get() {
        return Verdict::UriChanged;
    }
    from_access(w, req).await
}

async fn rewrite_phase(w: &Rc<Worker>, req: &Rc<Request>, level: &Arc<Location>) -> Verdict {
    let early = req.env.http().lua.settings.rewrite_by_lua_no_postpone;
    if early {
        unless_next!(lua(w, req, Phase::Rewrite).await);
        if req.uri_changed.get() {
            return Verdict::Next;
        }
    }
    if !level.rewrite.is_empty() {
        req.phase.set(Phase::Rewrite);
        unless_next!(rewrite::run(w, req, &level.rewrite).await);
        if req.uri_changed.get() {
            // The location will be left: its script is not run.
            return Verdict::Next;
        }
    }
    if early {
        return Verdict::Next;
    }
    lua(w, req, Phase::Rewrite).await
}

async fn from_access(w: &Rc<Worker>, req: &Rc<Request>) -> Verdict {
    more_headers::change_input(req);
    realip::apply(req);
    unless_next!(limits::run(w, req).await);
    unless_next!(access::run(w, req).await);
    if req.env.http().lua.settings.precontent_by_lua_no_postpone {
        unless_next!(lua(w, req, Phase::Precontent).await);
        unless_next!(files::try_files(req));
    } else {
        unless_next!(files::try_files(req));
        unless_next!(lua(w, req, Phase::Precontent).await);
    }
    let level = req.level.borrow().clone();
    if matches!(level.content, Some(Content::Lua(_))) {
        debug_handler(req, Phase::Content);
    }
    match &level.content {
        Some(Content::Lua(code)) => match run_code(w, req, Phase::Content, code).await {
            Verdict::Next => Verdict::Done,
            v => v,
        },
        Some(Content::Proxy(_)) => {
            let Some(proxy) = &w.proxy else { return Verdict::Status(500) };
            match proxy.run(w, req) {
                Run::Ready(v) => v,
                Run::Wait(f) => f.await,
            }
        }
        Some(Content::StubStatus) => files::stub_status(w, req),
        Some(Content::EmptyGif) => files::empty_gif(w, req),
        Some(Content::Echo(script)) => echo::run(w, req, script).await,
        None => files::serve(w, req).await,
    }
}

fn find_location(req: &Rc<Request>) -> Verdict {
    req.location_valid.set(true);
    let server = req.server.borrow().clone();
    let uri = req.uri.borrow().clone();
    let found = with_match(|data| {
        let found = server.locations.find(&uri, data);
        if let Some(f) = &found
            && f.by_pattern
            && let crate::conf::model::LocationKind::Regex(pattern) = &f.location.kind
        {
            req.keep_captures(&uri, data);
            set_named(req, pattern, &uri, data);
        }
        found
    });
    // A location that passes requests on and ends in a slash is found without it, by a redirect; only an
    // exact match is better.
    let by_redirect = match &found {
        Some(f) if !f.by_pattern && *f.location.name == *uri => false,
        _ => server
            .locations
            .find_with_slash(&uri)
            .is_some_and(|l| matches!(l.content, Some(Content::Proxy(_)))),
    };
    if by_redirect {
        let mut to = Vec::new();
        escape(&uri, Place::Uri, &mut to);
        to.push(b'/');
        let args = req.args.borrow();
        if !args.is_empty() {
            to.push(b'?');
            to.extend_from_slice(&args);
        }
        drop(args);
        req.response.borrow_mut().set_own_location(&to);
        return Verdict::Status(301);
    }
    let mut level = match found {
        Some(f) => f.location,
        None => server.level.clone(),
    };
    if level.internal && !req.internal.get() {
        req.set_level(level);
        return Verdict::Status(404);
    }
    if let Some(limit) = &level.limit_except {
        let method = req.method.borrow();
        let allowed = |m: &[u8]| limit.methods.iter().any(|x| **x == *m);
        if !allowed(&method) && !(*method == b"HEAD" && allowed(b"GET")) {
            level = limit.level.clone();
        }
    }
    req.set_level(level);
    limit_keepalive(req);
    let max = req.location().client_max_body_size;
    if let (true, Some(crate::http1::body::Decoder::Length(n))) = (max > 0, &req.incoming.borrow().decoder)
        && *n > max
        && matches!(*req.body.borrow(), Body::Unread)
    {
        *req.body.borrow_mut() = Body::Discarded;
        let text = format!("client intended to send too large body: {n} bytes");
        req.log(Level::Error, text.as_bytes());
        return Verdict::Status(413);
    }
    Verdict::Next
}

/// The location may keep connections for less than the server does.
fn limit_keepalive(req: &Rc<Request>) {
    let loc = req.location();
    let conn = &req.conn;
    let age_ms = crate::http1::clock::monotonic_ms() - conn.accepted_ms;
    if loc.keepalive_timeout.timeout_ms == 0
        || conn.requests.get() >= loc.keepalive_requests
        || age_ms >= loc.keepalive_time
    {
        req.keepalive.set(false);
    }
}
