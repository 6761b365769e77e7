//! Runs a location's `echo*` commands.
//!
//! Commands run in order; sleeping and subrequests wait, the output of subrequests stays in its place
//! (`request::postpone`).

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::filters::{drive, passed, submit};
use super::{Verdict, Worker, engine, files};
use crate::conf::directives::echo::{EchoCommand, EchoKind, EchoScript};
use crate::conf::model::Level;
use crate::http1::clock;
use crate::request::body::{Body, BodyError, BodyFile, bytes_to_path, read_body};
use crate::request::response::{BodyFilter, Chunk, HeadState};
use crate::request::subrequest::{DEPTH_MAX, create_inner, depth};
use crate::request::{Request, postpone, uri};

/// Most bytes that `echo_duplicate` may make.
const DUPLICATE_BYTES_MAX: usize = 1 << 30;
/// Bytes of a body file read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What a command leads to.
enum Step {
    /// The next command.
    Next,
    /// The handler ends like this.
    End(Verdict),
}

/// The items of a running `echo_foreach_split`.
struct Foreach {
    /// The command behind it.
    first: usize,
    items: std::vec::IntoIter<Vec<u8>>,
}

/// Runs the commands and ends the response.
pub async fn run(w: &Rc<Worker>, req: &Rc<Request>, script: &EchoScript) -> Verdict {
    let mut foreach: Option<Foreach> = None;
    let mut at = 0;
    while let Some(command) = script.commands.get(at) {
        at += 1;
        let args: Vec<Vec<u8>> = command.args.iter().map(|a| req.eval(a)).collect();
        let step = match command.kind {
            EchoKind::Foreach => match begin_foreach(req, &mut foreach, &args, at) {
                Ok(true) => Step::Next,
                Ok(false) => {
                    let rest = &script.commands[at..];
                    at += rest.iter().position(|c| c.kind == EchoKind::End).map_or(rest.len(), |n| n + 1);
                    Step::Next
                }
                Err(v) => Step::End(v),
            },
            EchoKind::End => match end_foreach(req, &mut foreach) {
                Ok(Some(first)) => {
                    at = first;
                    Step::Next
                }
                Ok(None) => Step::Next,
                Err(v) => Step::End(v),
            },
            _ => command_step(w, req, script, command, args).await,
        };
        if let Step::End(verdict) = step {
            return verdict;
        }
    }
    send_head(w, req, script);
    let ticket = submit(w, req, Chunk { last: true, ..Chunk::default() });
    passed(req, ticket).await;
    Verdict::Done
}

async fn command_step(
    w: &Rc<Worker>,
    req: &Rc<Request>,
    script: &EchoScript,
    command: &EchoCommand,
    args: Vec<Vec<u8>>,
) -> Step {
    match command.kind {
        EchoKind::Echo => {
            let data = text(command, &args);
            if !data.is_empty() {
                return send(w, req, script, data).await;
            }
        }
        EchoKind::Head => send_head(w, req, script),
        EchoKind::RequestBody => return send_body(w, req, script).await,
        EchoKind::Sleep | EchoKind::BlockingSleep => {
            let Some(ms) = milliseconds(&args[0]) else {
                let shown = String::from_utf8_lossy(&args[0]);
                req.log(Level::Error, format!("invalid sleep duration \"{shown}\"").as_bytes());
                return Step::End(Verdict::Status(400));
            };
            if command.kind == EchoKind::BlockingSleep {
                std::thread::sleep(Duration::from_millis(ms));
            } else {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            clock::update();
        }
        EchoKind::Flush => {
            if req.head_sent() {
                submit(w, req, Chunk { flush: true, ..Chunk::default() });
                req.flushing.set(true);
            }
        }
        EchoKind::ResetTimer => req.echo.borrow_mut().timer_ms = clock::update(),
        EchoKind::Location | EchoKind::LocationAsync => {
            let (target, query) = (args.first().cloned().unwrap_or_default(), args.get(1).cloned());
            let spec = Inner { target, query, ..Inner::default() };
            return subrequest(w, req, script, spec, command.kind == EchoKind::Location).await;
        }
        EchoKind::Subrequest | EchoKind::SubrequestAsync => match inner_of(req, &args) {
            Ok(spec) => {
                return subrequest(w, req, script, spec, command.kind == EchoKind::Subrequest).await;
            }
            Err(text) => {
                req.log(Level::Error, text.as_bytes());
                return Step::End(Verdict::Status(500));
            }
        },
        EchoKind::Duplicate => return duplicate(w, req, script, &args).await,
        EchoKind::ReadRequestBody => return read(req).await,
        EchoKind::Exec => return Step::End(exec(req, &args)),
        EchoKind::Foreach | EchoKind::End => {}
    }
    Step::Next
}

/// The arguments with blanks between, and a newline unless `-n`.
pub fn text(command: &EchoCommand, args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = args.join(&b' ');
    if command.options.first().is_none_or(|o| **o != *b"n") {
        out.push(b'\n');
    }
    out
}

/// Sends the head if nobody has.
fn send_head(w: &Rc<Worker>, req: &Rc<Request>, script: &EchoScript) {
    let _ = script;
    let level = req.level.borrow().clone();
    {
        let mut res = req.response.borrow_mut();
        if res.head != HeadState::Open || !res.lane.is_empty() {
            return;
        }
        res.status = level.filters.echo_status;
        if res.content_type.is_none() {
            let t = files::content_type(&level, &req.uri.borrow());
            res.content_type = (!t.is_empty()).then_some(t);
        }
        res.clear_length();
        res.clear_ranges();
    }
    submit(w, req, Chunk { head_only: true, ..Chunk::default() });
}

async fn send(w: &Rc<Worker>, req: &Rc<Request>, script: &EchoScript, data: Vec<u8>) -> Step {
    send_head(w, req, script);
    let ticket = submit(w, req, Chunk { data, ..Chunk::default() });
    if passed(req, ticket).await { Step::Next } else { Step::End(Verdict::Done) }
}

async fn send_body(w: &Rc<Worker>, req: &Rc<Request>, script: &EchoScript) -> Step {
    let path = match &*req.body.borrow() {
        Body::Memory(bytes) if !bytes.is_empty() => Err(bytes.clone()),
        Body::File(file) => Ok(file.path.clone()),
        _ => return Step::Next,
    };
    let path = match path {
        Err(bytes) => return send(w, req, script, bytes).await,
        Ok(path) => path,
    };
    let Ok(mut file) = std::fs::File::open(path) else { return Step::End(Verdict::Status(500)) };
    loop {
        let mut data = vec![0; PIECE_BYTES];
        match std::io::Read::read(&mut file, &mut data) {
            Ok(0) => return Step::Next,
            Ok(n) => {
                data.truncate(n);
                if let Step::End(v) = send(w, req, script, data).await {
                    return Step::End(v);
                }
            }
            Err(_) => return Step::End(Verdict::Status(500)),
        }
    }
}

/// Seconds with up to three decimals, as milliseconds.
fn milliseconds(text: &[u8]) -> Option<u64> {
    let mut total: u64 = 0;
    let mut decimals = None;
    if text.is_empty() {
        return None;
    }
    for &b in text {
        match (b, decimals) {
            (b'.', None) => decimals = Some(0),
            (b'0'..=b'9', None | Some(0..=2)) => {
                total = total.checked_mul(10)?.checked_add(u64::from(b - b'0'))?;
                decimals = decimals.map(|n| n + 1);
            }
            // More digits than count.
            (b'0'..=b'9', Some(_)) => {}
            _ => return None,
        }
    }
    total.checked_mul(10u64.pow(3 - decimals.unwrap_or(0)))
}

async fn duplicate(w: &Rc<Worker>, req: &Rc<Request>, script: &EchoScript, args: &[Vec<u8>]) -> Step {
    let digits: Vec<u8> = args.first().into_iter().flatten().copied().filter(|b| *b != b'_').collect();
    let count = crate::conf::value::number(&digits).and_then(|n| usize::try_from(n).ok());
    let text = args.get(1).cloned().unwrap_or_default();
    let Some(count) = count.filter(|n| n.saturating_mul(text.len()) <= DUPLICATE_BYTES_MAX) else {
        let shown = String::from_utf8_lossy(args.first().map_or(&b""[..], |a| a));
        req.log(Level::Error, format!("invalid size specified: \"{shown}\"").as_bytes());
        return Step::End(Verdict::Status(500));
    };
    if count == 0 || text.is_empty() {
        send_head(w, req, script);
        return Step::Next;
    }
    send(w, req, script, text.repeat(count)).await
}

async fn read(req: &Rc<Request>) -> Step {
    match read_body(req).await {
        Ok(()) => Step::Next,
        Err(BodyError::Status(status)) => Step::End(Verdict::Status(status)),
        Err(BodyError::Gone) => Step::End(Verdict::Close),
    }
}

fn begin_foreach(
    req: &Rc<Request>,
    foreach: &mut Option<Foreach>,
    args: &[Vec<u8>],
    first: usize,
) -> Result<bool, Verdict> {
    if foreach.is_some() {
        req.log(Level::Error, b"Nested echo_foreach not supported yet.");
        return Err(Verdict::Status(500));
    }
    let [delimiter, whole, ..] = args else {
        req.log(
            Level::Error,
            b"echo_foreach should take at least two arguments. (if your delimiter starts with \"-\", \
              preceding it with a \"--\".)",
        );
        return Err(Verdict::Status(500));
    };
    let mut items: Vec<Vec<u8>> = Vec::new();
    let mut rest = &whole[..];
    while let Some(n) = (!delimiter.is_empty()).then(|| memchr::memmem::find(rest, delimiter)).flatten() {
        if n > 0 {
            items.push(rest[..n].to_vec());
        }
        rest = &rest[n + delimiter.len()..];
    }
    if !rest.is_empty() {
        items.push(rest.to_vec());
    }
    let mut items = items.into_iter();
    let item = items.next();
    let any = item.is_some();
    req.echo.borrow_mut().item = item;
    if any {
        *foreach = Some(Foreach { first, items });
    }
    Ok(any)
}

/// Where the loop goes on; `None` behind it.
fn end_foreach(req: &Rc<Request>, foreach: &mut Option<Foreach>) -> Result<Option<usize>, Verdict> {
    let Some(running) = foreach else {
        req.log(Level::Error, b"Found a echo_end that has no corresponding echo_foreach before it.");
        return Err(Verdict::Status(500));
    };
    let item = running.items.next();
    let first = item.is_some().then_some(running.first);
    req.echo.borrow_mut().item = item;
    if first.is_none() {
        *foreach = None;
    }
    Ok(first)
}

fn exec(req: &Rc<Request>, args: &[Vec<u8>]) -> Verdict {
    let target = args.first().map_or(&b""[..], |a| a);
    if target.is_empty() {
        return Verdict::Status(500);
    }
    if target[0] == b'@' {
        return Verdict::Named(target.to_vec());
    }
    let Some((uri, own_args)) = safe_target(req, target) else { return Verdict::Status(500) };
    let query = args.get(1).filter(|a| !a.is_empty()).cloned().unwrap_or(own_args);
    Verdict::Internal { uri, args: Some(query) }
}

/// Path and query of a target of the configuration's, unless it climbs out.
fn safe_target(req: &Rc<Request>, target: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    match uri::normalise(target, false) {
        Ok(t) => Some((t.uri, t.args)),
        Err(uri::BadUri) => {
            let mut text = b"unsafe URI \"".to_vec();
            text.extend_from_slice(target);
            text.extend_from_slice(b"\" was detected");
            req.log(Level::Error, &text);
            None
        }
    }
}

/// A subrequest to make.
#[derive(Default)]
struct Inner {
    target: Vec<u8>,
    query: Option<Vec<u8>>,
    method: Option<Vec<u8>>,
    body: Option<Body>,
    /// It sees none of the parent's variables.
    own_vars: bool,
}

fn inner_of(req: &Rc<Request>, args: &[Vec<u8>]) -> Result<Inner, String> {
    let mut inner = Inner { own_vars: true, ..Inner::default() };
    inner.method = args.first().cloned();
    inner.target = args.get(1).cloned().unwrap_or_default();
    let mut rest = args.iter().skip(2);
    while let Some(option) = rest.next() {
        let value = || String::from_utf8_lossy(option).into_owned();
        match (&option[..], rest.next()) {
            (b"-q", v) => inner.query = v.cloned(),
            (b"-b", Some(v)) if !v.is_empty() => inner.body = Some(Body::Memory(v.clone())),
            (b"-b", _) => {}
            (b"-f", Some(v)) if !v.is_empty() => {
                let path = req.env.config.prefix.join(bytes_to_path(v));
                let meta = std::fs::metadata(&path).map_err(|e| {
                    let why = crate::conf::error::os_text(&e);
                    format!("open() \"{}\" failed {why}", path.display())
                })?;
                inner.body = Some(Body::File(BodyFile { path, len: meta.len(), delete: false }));
            }
            (b"-f", _) => {}
            _ => return Err(format!("unknown option for echo_subrequest*: {}", value())),
        }
    }
    Ok(inner)
}

/// Ends the task of a subrequest with the request that made it.
struct Abort(JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn subrequest(
    w: &Rc<Worker>,
    req: &Rc<Request>,
    script: &EchoScript,
    inner: Inner,
    wait: bool,
) -> Step {
    if let Step::End(v) = read(req).await {
        return Step::End(v);
    }
    if inner.target.is_empty() {
        return Step::End(Verdict::Status(500));
    }
    let Some((path, own_query)) = safe_target(req, &inner.target) else {
        return Step::End(Verdict::Status(500));
    };
    send_head(w, req, script);
    if req.response.borrow().header_only {
        return Step::Next;
    }
    if depth(req) >= DEPTH_MAX {
        let shown = String::from_utf8_lossy(&path);
        req.log(Level::Error, format!("subrequests cycle while processing \"{shown}\"").as_bytes());
        return Step::End(Verdict::Status(500));
    }
    let query = inner.query.unwrap_or(own_query);
    let child = create_inner(req, path, query, |child| {
        if let Some(method) = inner.method {
            child.response.get_mut().header_only = method == b"HEAD";
            *child.method.get_mut() = method;
        }
        if let Some(body) = inner.body {
            let len = match &body {
                Body::Memory(bytes) => bytes.len() as u64,
                Body::File(file) => file.len,
                _ => 0,
            };
            child.headers.get_mut().set(b"Content-Length", len.to_string().as_bytes());
            *child.body.get_mut() = body;
        }
        if inner.own_vars {
            child.slots = Rc::default();
        }
    });
    let task = spawn(w, req, &child);
    if wait {
        // The task's end is the subrequest's; its own failures are in the log.
        let _ = std::future::poll_fn(|cx| {
            if child.over.get() {
                return std::task::Poll::Ready(());
            }
            child.response.borrow_mut().watch(cx);
            if task.is_finished() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
    req.at_end.borrow_mut().push(Box::new(Abort(task)));
    Step::Next
}

/// Starts a subrequest whose output goes into its parent's.
pub fn spawn(w: &Rc<Worker>, parent: &Rc<Request>, child: &Rc<Request>) -> JoinHandle<()> {
    postpone::attach(parent, child);
    let (w, child) = (w.clone(), child.clone());
    tokio::task::spawn_local(async move {
        drive(&w, &child).await;
        engine::log(&w, &child).await;
    })
}

/// `echo_before_body` and `echo_after_body`.
struct Around {
    begun: bool,
}

/// What a list of filter commands says now.
fn all(req: &Request, list: &[EchoCommand]) -> Vec<u8> {
    let mut out = Vec::new();
    for command in list {
        let args: Vec<Vec<u8>> = command.args.iter().map(|a| req.eval(a)).collect();
        out.extend_from_slice(&text(command, &args));
    }
    out
}

impl BodyFilter for Around {
    fn run(&mut self, req: &Rc<Request>, chunk: &mut Chunk) -> Result<(), &'static str> {
        let level = req.level.borrow().clone();
        if !std::mem::replace(&mut self.begun, true) && !level.parts.echo_before.is_empty() {
            chunk.data.splice(0..0, all(req, &level.parts.echo_before));
        }
        if chunk.last && !level.parts.echo_after.is_empty() {
            chunk.data.extend_from_slice(&all(req, &level.parts.echo_after));
        }
        Ok(())
    }
}

/// The header filter of the family: announces what will stand around the body.
pub fn header_filter(req: &Request) {
    let level = req.level.borrow().clone();
    if level.parts.echo_before.is_empty() && level.parts.echo_after.is_empty() {
        return;
    }
    let mut res = req.response.borrow_mut();
    res.clear_length();
    res.clear_ranges();
    res.filters.push(Box::new(Around { begun: false }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_take_three_decimals() {
        let cases: [(&str, Option<u64>); 8] = [
            ("1", Some(1000)),
            ("0.5", Some(500)),
            (".002", Some(2)),
            ("0.0019", Some(1)),
            ("", None),
            ("1.2.3", None),
            ("-1", None),
            ("x", None),
        ];
        for (text, want) in cases {
            assert_eq!(milliseconds(text.as_bytes()), want, "{text}");
        }
    }
}
