//! The phases of a request, in order, with their loops: redirects, error pages, log.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::filters::{Ending, prepare_head, submit};
use super::special::{After, respond};
use super::{Run, Verdict, Wait, Worker, access, echo, files, limits, mirror, more_headers, realip, rewrite};
use crate::conf::model::{Content, Level, LuaCode};
use crate::phase::Phase;
use crate::request::body::{Body, bytes_to_path};
use crate::request::escape::{Place, escape};
use crate::request::response::{Chunk, HeadState, Sink};
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

/// The steps from a request's start to its content, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    ServerLua,
    ServerRewrite,
    Find,
    /// `rewrite_by_lua_no_postpone on`: the script before the directives.
    EarlyLua,
    Rewrite,
    RewriteLua,
    RewriteEnd,
    Limits,
    Access,
    PrecontentFirst,
    PrecontentSecond,
    Content,
}

/// What comes next.
enum At {
    Entry(Entry),
    Stage(Stage),
    /// The handler has decided: the output is brought to its end.
    Ending,
    /// Everything is out.
    Over,
}

/// A request on its way through all its phases until its response is out; the log phase is not among them.
///
/// A table of steps rather than an `async` function: most requests never wait, and a future that holds the
/// whole way would be moved about for each of them. Whatever waits is boxed.
pub struct Course {
    at: At,
    /// The location was set by whoever entered: a changed path begins anew.
    located: bool,
    wait: Option<Wait<Verdict>>,
    ending: Ending,
}

impl Course {
    /// Nothing has been done. With a status the response is its page.
    pub fn new(first_status: Option<u16>) -> Course {
        Course {
            at: At::Entry(first_status.map_or(Entry::Start, Entry::Status)),
            located: false,
            wait: None,
            ending: Ending::default(),
        }
    }

    /// Goes on as far as it goes. Ready when the response is out.
    pub fn poll(&mut self, w: &Rc<Worker>, req: &Rc<Request>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &self.at {
                At::Entry(_) => self.enter(w, req),
                At::Stage(stage) => {
                    let stage = *stage;
                    if is_idle(req, stage) {
                        self.at = self.behind(req, stage);
                        continue;
                    }
                    match self.poll_stage(w, req, stage, cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Verdict::Next) => self.at = self.behind(req, stage),
                        Poll::Ready(verdict) => self.at = decide(w, req, verdict),
                    }
                    if matches!(self.at, At::Ending) {
                        self.end(w, req);
                    }
                }
                At::Ending => {
                    if self.ending.poll(req, cx).is_pending() {
                        return Poll::Pending;
                    }
                    // A header filter may have refused the response: another takes its place.
                    let refused = req.response.borrow_mut().take_refusal();
                    self.at = match refused {
                        Some(status) if !req.gone.get() => At::Entry(Entry::Status(status)),
                        _ => {
                            postpone::finished(req);
                            At::Over
                        }
                    };
                }
                At::Over => return Poll::Ready(()),
            }
        }
    }

    fn enter(&mut self, w: &Rc<Worker>, req: &Rc<Request>) {
        let At::Entry(entry) = &self.at else { return };
        self.at = match entry {
            Entry::Start => {
                self.located = false;
                to_server_level(req);
                req.uri_changed.set(false);
                realip::apply(req);
                At::Stage(Stage::ServerLua)
            }
            Entry::Located => {
                self.located = true;
                req.uri_changed.set(false);
                At::Stage(before_rewrite(req))
            }
            Entry::Status(status) => decide(w, req, Verdict::Status(*status)),
        };
        if matches!(self.at, At::Ending) {
            self.end(w, req);
        }
    }

    /// The handler is done: nothing of it runs any more, and its response ends.
    fn end(&mut self, w: &Rc<Worker>, req: &Rc<Request>) {
        if let Some(scripts) = &w.scripts {
            scripts.end(req);
        }
        end_output(w, req);
        self.ending = Ending::default();
    }

    /// Runs a step, or what it waits for.
    fn poll_stage(
        &mut self,
        w: &Rc<Worker>,
        req: &Rc<Request>,
        stage: Stage,
        cx: &mut Context<'_>,
    ) -> Poll<Verdict> {
        if self.wait.is_none() {
            match run_stage(w, req, stage, cx) {
                Run::Ready(verdict) => return Poll::Ready(verdict),
                Run::Wait(future) => self.wait = Some(future),
            }
        }
        let Some(future) = &mut self.wait else { return Poll::Pending };
        if let Poll::Ready(verdict) = future.as_mut().poll(cx) {
            self.wait = None;
            return Poll::Ready(verdict);
        }
        if req.response.borrow().refused.is_some() {
            // A header filter has refused what the handler made: it need not go on.
            self.wait = None;
            return Poll::Ready(Verdict::Done);
        }
        Poll::Pending
    }

    /// What follows a step that has let the request pass.
    fn behind(&self, req: &Rc<Request>, stage: Stage) -> At {
        At::Stage(match stage {
            Stage::ServerLua => Stage::ServerRewrite,
            Stage::ServerRewrite => Stage::Find,
            Stage::Find => before_rewrite(req),
            Stage::EarlyLua if req.uri_changed.get() => Stage::RewriteEnd,
            Stage::EarlyLua => Stage::Rewrite,
            // With a changed path the location will be left: its script is not run.
            Stage::Rewrite if req.uri_changed.get() || lua_settings(req).rewrite_by_lua_no_postpone => {
                Stage::RewriteEnd
            }
            Stage::Rewrite => Stage::RewriteLua,
            Stage::RewriteLua => Stage::RewriteEnd,
            Stage::RewriteEnd if !req.uri_changed.get() => Stage::Limits,
            Stage::RewriteEnd if !count_change(req) => return At::Entry(Entry::Status(500)),
            Stage::RewriteEnd if self.located => return At::Entry(Entry::Start),
            Stage::RewriteEnd => {
                to_server_level(req);
                Stage::Find
            }
            Stage::Limits => Stage::Access,
            Stage::Access => Stage::PrecontentFirst,
            Stage::PrecontentFirst => Stage::PrecontentSecond,
            Stage::PrecontentSecond => Stage::Content,
            Stage::Content => return At::Ending,
        })
    }
}

fn lua_settings(req: &Request) -> &crate::conf::settings::LuaSettings {
    &req.env.http().lua.settings
}

/// The first step of a location's rewrite phase.
fn before_rewrite(req: &Request) -> Stage {
    if lua_settings(req).rewrite_by_lua_no_postpone { Stage::EarlyLua } else { Stage::Rewrite }
}

fn to_server_level(req: &Request) {
    let server = req.server.borrow();
    let mut level = req.level.borrow_mut();
    if !Arc::ptr_eq(&level, &server.level) {
        level.clone_from(&server.level);
    }
}

/// Whether a step has nothing to do: most have not, and to find that out costs less than to run them.
fn is_idle(req: &Request, stage: Stage) -> bool {
    let http = req.env.http();
    let used = |phase: Phase| http.lua.used[phase as usize];
    match stage {
        Stage::ServerRewrite => req.server.borrow().rewrite.is_empty(),
        Stage::ServerLua => !used(Phase::ServerRewrite),
        Stage::EarlyLua | Stage::RewriteLua => !used(Phase::Rewrite),
        Stage::Rewrite => req.location().rewrite.is_empty(),
        Stage::RewriteEnd => true,
        Stage::Limits => {
            let level = req.location();
            let parts = &level.parts;
            parts.more_headers.is_empty()
                && parts.real_ip_from.is_empty()
                && parts.limit_reqs.is_empty()
                && parts.limit_conns.is_empty()
        }
        Stage::Access => !used(Phase::Access) && access::has_only_script(&req.location()),
        Stage::PrecontentFirst | Stage::PrecontentSecond => {
            let script_first = lua_settings(req).precontent_by_lua_no_postpone;
            if script_first == (stage == Stage::PrecontentFirst) {
                !used(Phase::Precontent)
            } else {
                let level = req.location();
                level.try_files.is_none() && level.parts.mirrors.is_empty()
            }
        }
        Stage::Find | Stage::Content => false,
    }
}

/// Does what a step is there for.
fn run_stage(w: &Rc<Worker>, req: &Rc<Request>, stage: Stage, cx: &mut Context<'_>) -> Run {
    let next = Run::Ready(Verdict::Next);
    match stage {
        Stage::ServerRewrite => {
            let ops = {
                let server = req.server.borrow();
                if server.rewrite.is_empty() {
                    return next;
                }
                server.rewrite.clone()
            };
            req.phase.set(Phase::ServerRewrite);
            rewrite::run(w, req, ops)
        }
        Stage::ServerLua => lua(w, req, Phase::ServerRewrite, cx),
        Stage::Find => {
            req.uri_changed.set(false);
            Run::Ready(find_location(req))
        }
        Stage::EarlyLua | Stage::RewriteLua => lua(w, req, Phase::Rewrite, cx),
        Stage::Rewrite => {
            let ops = {
                let level = req.location();
                if level.rewrite.is_empty() {
                    return next;
                }
                level.rewrite.clone()
            };
            req.phase.set(Phase::Rewrite);
            rewrite::run(w, req, ops)
        }
        Stage::RewriteEnd => next,
        Stage::Limits => {
            more_headers::change_input(req);
            realip::apply(req);
            limits::run(w, req)
        }
        Stage::Access => access::run(w, req, cx),
        Stage::PrecontentFirst | Stage::PrecontentSecond => {
            let script_first = lua_settings(req).precontent_by_lua_no_postpone;
            if script_first == (stage == Stage::PrecontentFirst) {
                lua(w, req, Phase::Precontent, cx)
            } else {
                match files::try_files(req) {
                    Verdict::Next => mirror::run(w, req),
                    verdict => Run::Ready(verdict),
                }
            }
        }
        Stage::Content => content(w, req, cx),
    }
}

fn content(w: &Rc<Worker>, req: &Rc<Request>, cx: &mut Context<'_>) -> Run {
    let level = req.level.borrow().clone();
    match &level.content {
        Some(Content::Lua(code)) => {
            debug_handler(req, Phase::Content);
            run_code(w, req, Phase::Content, code, cx)
        }
        Some(Content::Proxy(_)) => match &w.proxy {
            Some(proxy) => proxy.run(w, req),
            None => Run::Ready(Verdict::Status(500)),
        },
        Some(Content::StubStatus) => Run::Ready(files::stub_status(w, req)),
        Some(Content::EmptyGif) => Run::Ready(files::empty_gif(w, req)),
        Some(Content::Echo(_)) => {
            let (w, req) = (w.clone(), req.clone());
            Run::Wait(Box::pin(async move {
                match &level.content {
                    Some(Content::Echo(script)) => echo::run(&w, &req, script).await,
                    _ => Verdict::Next,
                }
            }))
        }
        None => files::serve(w, req),
    }
}

/// What a handler's decision leads to.
fn decide(w: &Rc<Worker>, req: &Rc<Request>, verdict: Verdict) -> At {
    let verdict = match verdict {
        // Whoever captures gets the status of an error, without any page.
        Verdict::Status(s) if s >= 300 && is_captured(req) => {
            let content_type = files::content_type(&req.location(), &req.uri.borrow());
            let mut res = req.response.borrow_mut();
            res.status = s;
            res.content_type = Some(content_type);
            res.clear_length();
            res.eof = true;
            res.fail();
            return At::Ending;
        }
        // Nobody is there to read a page.
        Verdict::Status(s) if req.is_main() && req.conn.is_broken() => {
            req.err_status.set(s);
            Verdict::Close
        }
        Verdict::Status(s @ (408 | 444 | 499)) => {
            // No answer is sent, but the log shows why.
            req.err_status.set(s);
            Verdict::Close
        }
        Verdict::Status(s) => match respond(w, req, s) {
            After::Sent => return At::Ending,
            After::Go(v) => v,
        },
        v => v,
    };
    At::Entry(match verdict {
        Verdict::Done | Verdict::Next => return At::Ending,
        Verdict::Close => {
            req.keepalive.set(false);
            req.gone.set(true);
            if req.is_main() {
                req.conn.break_off();
            }
            return At::Ending;
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
            true => {
                // A script's jump begins with nothing, as other internal redirects do.
                *req.script_ctx.borrow_mut() = None;
                Entry::Start
            }
            false => Entry::Status(500),
        },
        Verdict::Status(s) => Entry::Status(s),
    })
}

/// Whether the response goes to a script, and nothing of it has gone there yet.
fn is_captured(req: &Request) -> bool {
    let res = req.response.borrow();
    // Who asks for nothing but the head is no script: its error pages count.
    matches!(res.sink, Sink::Memory(_)) && !res.header_only && res.head == HeadState::Open
}

/// Ends the response if its handler has not, with what was gathered for its length.
fn end_output(w: &Rc<Worker>, req: &Rc<Request>) {
    if matches!(req.location().content, Some(Content::Lua(_))) && req.phase.get() == Phase::Content {
        // A script that has said nothing has made a response all the same.
        prepare_head(req);
    }
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
    if let Some(script) = log_script(w, req) {
        script.await;
    }
    write_logs(req);
}

/// The first part of the log phase: its script, if the location has one.
pub fn log_script(w: &Rc<Worker>, req: &Rc<Request>) -> Option<Wait<()>> {
    if !logs(req) {
        return None;
    }
    trim_heap_now_and_then(req);
    if !req.env.http().lua.used[Phase::Log as usize] {
        return None;
    }
    let code = req.location().lua.get(Phase::Log).cloned();
    debug_handler(req, Phase::Log);
    let (code, scripts) = (code?, w.scripts.as_ref()?);
    req.phase.set(Phase::Log);
    Some(scripts.log(req, &code))
}

fn logs(req: &Request) -> bool {
    req.is_main() || req.location().log_subrequest
}

/// The second part of the log phase: the access logs.
pub fn write_logs(req: &Rc<Request>) {
    if req.location().access_logs.is_empty() || !logs(req) {
        return;
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
    req.args_given.set(args.is_some() && req.args_given.get());
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
pub(super) fn lua(w: &Rc<Worker>, req: &Rc<Request>, phase: Phase, cx: &mut Context<'_>) -> Run {
    if !req.env.http().lua.used[phase as usize] {
        return Run::Ready(Verdict::Next);
    }
    let code = req.location().lua.get(phase).cloned();
    debug_handler(req, phase);
    match code {
        Some(code) => run_code(w, req, phase, &code, cx),
        None => Run::Ready(Verdict::Next),
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

fn run_code(
    w: &Rc<Worker>,
    req: &Rc<Request>,
    phase: Phase,
    code: &Arc<LuaCode>,
    cx: &mut Context<'_>,
) -> Run {
    let Some(scripts) = &w.scripts else { return Run::Ready(Verdict::Status(500)) };
    req.phase.set(phase);
    scripts.run(req, phase, code, cx)
}

fn find_location(req: &Rc<Request>) -> Verdict {
    req.location_valid.set(true);
    let server = req.server.borrow();
    let uri = req.uri.borrow();
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
    drop((server, uri));
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
