//! Rewrite scripts: `set`, `if`, `rewrite`, `return`, `break`, `set_by_lua*`.

use std::rc::Rc;
use std::sync::Arc;

use super::special::send_response;
use super::{Run, Verdict, Worker, files, set_misc};
use crate::conf::model::{Condition, FileTest, Level, LuaCode, Return, Rewrite, RewriteFlag, RewriteOp};
use crate::conf::variables::{Script, VarId, Variables};
use crate::request::body::bytes_to_path;
use crate::request::escape::{Place, escape};
use crate::request::vars::{Vars, set_id, set_named};
use crate::request::{Request, with_match};

/// Runs a script. `Verdict::Next` when the phase goes on; the URI may have been changed.
pub fn run(w: &Rc<Worker>, req: &Rc<Request>, ops: Arc<[RewriteOp]>) -> Run {
    let mut steps = Steps { script: ops, at: 0, outer: Vec::new() };
    let call = match steps.run(w, req) {
        Stop::Done(verdict) => return Run::Ready(verdict),
        Stop::Call(call) => call,
    };
    let (w, req) = (w.clone(), req.clone());
    Run::Wait(Box::pin(async move {
        let mut call = call;
        loop {
            let Some(scripts) = &w.scripts else { return Verdict::Status(500) };
            match scripts.set(&req, &call.code, call.args).await {
                Ok(value) => set_id(&req, call.var, value),
                Err(()) => return Verdict::Status(500),
            }
            call = match steps.run(&w, &req) {
                Stop::Done(verdict) => return verdict,
                Stop::Call(call) => call,
            };
        }
    }))
}

/// A `set_by_lua*` that is to be called.
struct Call {
    var: VarId,
    code: Arc<LuaCode>,
    args: Vec<Vec<u8>>,
}

/// Where the steps of a script stop.
enum Stop {
    Done(Verdict),
    Call(Call),
}

/// A script under way.
struct Steps {
    script: Arc<[RewriteOp]>,
    at: usize,
    /// The bodies of `if` blocks nest: what goes on behind them.
    outer: Vec<(Arc<[RewriteOp]>, usize)>,
}

impl Steps {
    fn run(&mut self, w: &Rc<Worker>, req: &Rc<Request>) -> Stop {
        loop {
            let Some(op) = self.script.get(self.at) else {
                match self.outer.pop() {
                    Some((script, at)) => (self.script, self.at) = (script, at),
                    None => return Stop::Done(Verdict::Next),
                }
                continue;
            };
            self.at += 1;
            match op {
                RewriteOp::Set { var, value } => {
                    let value = req.eval(value);
                    set_id(req, *var, value);
                }
                RewriteOp::SetByLua { var, code, args } => {
                    let args = args.iter().map(|a| req.eval(a)).collect();
                    return Stop::Call(Call { var: *var, code: code.clone(), args });
                }
                RewriteOp::SetMisc { var, step } => match set_misc::value(req, step) {
                    Ok(value) => set_id(req, *var, value),
                    Err(()) => return Stop::Done(Verdict::Status(500)),
                },
                RewriteOp::If { condition, body, level } => {
                    if holds(req, condition) {
                        req.set_level(level.clone());
                        let body = body.clone();
                        let outer = std::mem::replace(&mut self.script, body);
                        self.outer.push((outer, std::mem::take(&mut self.at)));
                    }
                }
                RewriteOp::Break => return Stop::Done(Verdict::Next),
                RewriteOp::Return(r) => return Stop::Done(do_return(w, req, r)),
                RewriteOp::Rewrite(r) => match rewrite(req, r) {
                    Step::NoMatch | Step::GoOn => {}
                    Step::Stop => return Stop::Done(Verdict::Next),
                    Step::Redirect(status) => return Stop::Done(Verdict::Status(status)),
                },
            }
        }
    }
}

enum Step {
    NoMatch,
    GoOn,
    Stop,
    Redirect(u16),
}

fn rewrite(req: &Rc<Request>, r: &Rewrite) -> Step {
    let subject = req.uri.borrow().clone();
    let matched = with_match(|data| {
        let hit = r.pattern.regex.find_at(&subject, 0, data) == Ok(true);
        if hit {
            req.keep_captures(&subject, data);
            set_named(req, &r.pattern, &subject, data);
        }
        hit
    });
    if !matched {
        return Step::NoMatch;
    }
    let uri = req.eval(&r.uri);
    let mut args = r.args.as_ref().map(|a| req.eval(a)).unwrap_or_default();
    if r.keep_args && !req.args.borrow().is_empty() {
        // Arguments that come out empty count as such.
        if r.args.is_some() {
            args.push(b'&');
        }
        args.extend_from_slice(&req.args.borrow());
    }
    if req.location().rewrite_log {
        let mut text = b"rewritten data: \"".to_vec();
        text.extend_from_slice(&uri);
        text.extend_from_slice(b"\", args: \"");
        text.extend_from_slice(&args);
        text.push(b'"');
        req.log(Level::Notice, &text);
    }
    if let RewriteFlag::Redirect(status) = r.flag {
        let mut to = uri;
        if !args.is_empty() {
            to.push(b'?');
            to.extend_from_slice(&args);
        }
        redirect_to(req, &to);
        return Step::Redirect(status);
    }
    if uri.is_empty() {
        req.log(Level::Error, b"the rewritten URI has a zero length");
        return Step::Redirect(500);
    }
    *req.uri.borrow_mut() = uri;
    req.internal.set(true);
    let before = req.args.replace(args);
    req.args_given.set(r.args.is_some() || req.args_given.get() || !before.is_empty());
    req.internal.set(true);
    match r.flag {
        RewriteFlag::Break => {
            req.location_valid.set(false);
            Step::Stop
        }
        RewriteFlag::Last => {
            req.uri_changed.set(true);
            Step::Stop
        }
        _ => {
            req.uri_changed.set(true);
            Step::GoOn
        }
    }
}

/// Sets `Location`; escapes what must not stand in a header.
pub fn redirect_to(req: &Rc<Request>, to: &[u8]) {
    let mut escaped = Vec::new();
    escape(to, Place::Redirect, &mut escaped);
    req.response.borrow_mut().set_own_location(&escaped);
}

fn do_return(w: &Rc<Worker>, req: &Rc<Request>, r: &Return) -> Verdict {
    let empty = Script::default();
    let script = match &r.text {
        Some(script) => script,
        // Without a text a good status has an empty one, a bad one its page.
        None if r.status < 400 && !matches!(r.status, 301 | 302 | 303 | 307 | 308) => &empty,
        None => return Verdict::Status(r.status),
    };
    {
        let mut res = req.response.borrow_mut();
        res.status = r.status;
        res.zero_status = r.status == 0;
    }
    let text = req.eval(script);
    if r.is_redirect() {
        req.response.borrow_mut().set_own_location(&text);
        return Verdict::Status(r.status);
    }
    if r.status == 444 {
        return Verdict::Close;
    }
    let mut res = req.response.borrow_mut();
    if res.content_type.is_none() {
        res.content_type = Some(files::content_type(&req.location(), &req.uri.borrow()));
    }
    drop(res);
    let body = if r.status == 204 { Vec::new() } else { text };
    send_response(w, req, r.status, None, body);
    Verdict::Done
}

fn value_of(req: &Rc<Request>, var: VarId) -> Vec<u8> {
    let mut out = Vec::new();
    Vars(req).variable(var, &mut out);
    out
}

fn holds(req: &Rc<Request>, c: &Condition) -> bool {
    match c {
        Condition::True(var) => {
            let v = value_of(req, *var);
            !v.is_empty() && v != b"0"
        }
        Condition::Equal { var, text, negate } => (value_of(req, *var) == req.eval(text)) != *negate,
        Condition::Match { var, pattern, negate } => {
            let subject = value_of(req, *var);
            let hit = with_match(|data| {
                let hit = pattern.regex.find_at(&subject, 0, data) == Ok(true);
                if hit {
                    req.keep_captures(&subject, data);
                    set_named(req, pattern, &subject, data);
                }
                hit
            });
            hit != *negate
        }
        Condition::File { test, path, negate } => {
            use std::os::unix::fs::PermissionsExt;
            let path = bytes_to_path(&req.eval(path));
            let meta = std::fs::metadata(path);
            let yes = match (test, &meta) {
                (FileTest::File, Ok(m)) => m.is_file(),
                (FileTest::Directory, Ok(m)) => m.is_dir(),
                (FileTest::Exists, Ok(_)) => true,
                (FileTest::Executable, Ok(m)) => m.permissions().mode() & 0o111 != 0,
                (_, Err(_)) => false,
            };
            yes != *negate
        }
    }
}
