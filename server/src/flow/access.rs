//! The access phase: `allow`/`deny`, `auth_basic`, `auth_request`, then the scripts; `satisfy` joins them.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::filters::drive;
use super::password::{UnknownHash, verify};
use super::{Run, Verdict, Worker, engine};
use crate::conf::model::{Level, Location};
use crate::conf::settings::Satisfy;
use crate::phase::Phase;
use crate::request::Request;
use crate::request::body::{Body, bytes_to_path};
use crate::request::subrequest::{DEPTH_MAX, create_inner, depth};
use crate::request::vars::set_id;

/// Longest password file that is read.
const USER_FILE_BYTES_MAX: u64 = 64 << 20;

/// What one check says.
enum Check {
    /// It has nothing to say.
    Declined,
    /// The client may.
    Granted,
    /// The request ends with this status.
    Refused(u16),
    /// Something else happens.
    Other(Verdict),
}

/// Runs the phase. `Verdict::Next` lets the request pass.
pub fn run(w: &Rc<Worker>, req: &Rc<Request>, cx: &mut Context<'_>) -> Run {
    if !req.is_main() {
        return Run::Ready(Verdict::Next);
    }
    if has_only_script(&req.location()) {
        return match req.location().lua.get(Phase::Access).is_some() {
            true => engine::lua(w, req, Phase::Access, cx),
            false => Run::Ready(Verdict::Next),
        };
    }
    let (w, req) = (w.clone(), req.clone());
    Run::Wait(Box::pin(async move { checks(&w, &req).await }))
}

/// Whether there is no check but the script's: then what it says is what the phase says.
pub(super) fn has_only_script(level: &Location) -> bool {
    level.satisfy == Satisfy::All
        && level.parts.access.is_empty()
        && level.filters.auth_basic.is_none()
        && level.filters.auth_request.is_none()
}

async fn checks(w: &Rc<Worker>, req: &Rc<Request>) -> Verdict {
    let level = req.level.borrow().clone();
    let any = level.satisfy == Satisfy::Any;
    let early = req.env.http().lua.settings.access_by_lua_no_postpone;
    let mut refused = 0;
    for step in 0..5 {
        let check = match step {
            0 if early => script(w, req).await,
            1 => by_address(req),
            2 => by_password(req),
            3 => by_request(w, req).await,
            4 if !early => script(w, req).await,
            _ => Check::Declined,
        };
        match check {
            Check::Declined => {}
            Check::Granted if any => {
                req.response.borrow_mut().headers.remove(b"www-authenticate");
                return Verdict::Next;
            }
            Check::Granted => {}
            Check::Refused(status @ (401 | 403)) if any => refused = status,
            Check::Refused(status) => return Verdict::Status(status),
            Check::Other(verdict) => return verdict,
        }
    }
    if refused == 0 {
        return Verdict::Next;
    }
    if refused == 403 {
        req.log(Level::Error, b"access forbidden by rule");
    }
    Verdict::Status(refused)
}

async fn script(w: &Rc<Worker>, req: &Rc<Request>) -> Check {
    if req.location().lua.get(Phase::Access).is_none() {
        return Check::Declined;
    }
    let run = std::future::poll_fn(|cx| Poll::Ready(engine::lua(w, req, Phase::Access, cx))).await;
    let verdict = match run {
        Run::Ready(verdict) => verdict,
        Run::Wait(future) => future.await,
    };
    match verdict {
        Verdict::Next => Check::Granted,
        Verdict::Status(status) => Check::Refused(status),
        other => Check::Other(other),
    }
}

fn by_address(req: &Rc<Request>) -> Check {
    let level = req.level.borrow().clone();
    let client = req.peer.get().map(|a| a.ip());
    match level.parts.access.iter().find(|rule| rule.net.has(client)) {
        None => Check::Declined,
        Some(rule) if !rule.deny => Check::Granted,
        Some(_) => {
            if level.satisfy == Satisfy::All {
                req.log(Level::Error, b"access forbidden by rule");
            }
            Check::Refused(403)
        }
    }
}

fn by_password(req: &Rc<Request>) -> Check {
    let level = req.level.borrow().clone();
    let (Some(realm), Some(file)) = (&level.filters.auth_basic, &level.filters.auth_basic_user_file) else {
        return Check::Declined;
    };
    let realm = req.eval(realm);
    if realm == b"off" {
        return Check::Declined;
    }
    let ask = || {
        let mut value = b"Basic realm=\"".to_vec();
        value.extend_from_slice(&realm);
        value.push(b'"');
        req.response.borrow_mut().headers.set(b"WWW-Authenticate", &value);
        Check::Refused(401)
    };
    let Some((user, password)) = crate::request::vars::basic_auth(req).filter(|(user, _)| !user.is_empty())
    else {
        req.log(Level::Info, b"no user/password was provided for basic authentication");
        return ask();
    };
    let path = req.eval(file);
    let text = match read_users(&path) {
        Ok(text) => text,
        Err(e) => {
            let (status, level) = match e.kind() {
                std::io::ErrorKind::NotFound => (403, Level::Error),
                _ => (500, Level::Crit),
            };
            let mut line = b"open() \"".to_vec();
            line.extend_from_slice(&path);
            line.extend_from_slice(format!("\" failed {}", crate::conf::error::os_text(&e)).as_bytes());
            req.log(level, &line);
            return Check::Refused(status);
        }
    };
    let shown = String::from_utf8_lossy(&user).into_owned();
    let found = text.split(|b| *b == b'\n').find_map(|line| {
        let rest = line.strip_prefix(&user[..])?.strip_prefix(b":")?;
        rest.split(|b| matches!(b, b':' | b'\r')).next()
    });
    let Some(hash) = found else {
        let path = String::from_utf8_lossy(&path);
        req.log(Level::Error, format!("user \"{shown}\" was not found in \"{path}\"").as_bytes());
        return ask();
    };
    match verify(&password, hash) {
        Ok(true) => Check::Granted,
        Ok(false) => {
            req.log(Level::Error, format!("user \"{shown}\": password mismatch").as_bytes());
            ask()
        }
        Err(UnknownHash) => {
            let text = format!("user \"{shown}\": the kind of its password hash is not supported");
            req.log(Level::Error, text.as_bytes());
            Check::Refused(500)
        }
    }
}

fn read_users(path: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(bytes_to_path(path))?.take(USER_FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

async fn by_request(w: &Rc<Worker>, req: &Rc<Request>) -> Check {
    let level = req.level.borrow().clone();
    let Some(target) = level.filters.auth_request.as_deref().filter(|t| !t.is_empty()) else {
        return Check::Declined;
    };
    if depth(req) >= DEPTH_MAX {
        return Check::Refused(500);
    }
    let cut = memchr::memchr(b'?', target);
    let args = cut.map(|n| target[n + 1..].to_vec()).unwrap_or_default();
    let uri = target[..cut.unwrap_or(target.len())].to_vec();
    let child = create_inner(req, uri, args, |child| {
        child.response.get_mut().only_head();
        *child.body.get_mut() = Body::Memory(Vec::new());
    });
    drive(w, &child).await;
    engine::log(w, &child).await;
    let status = match child.err_status.get() {
        0 => child.response.borrow().status,
        status => status,
    };
    for set in &level.parts.auth_sets {
        let value = child.eval(&set.value);
        set_id(req, set.var, value);
    }
    match status {
        403 => Check::Refused(403),
        401 => {
            let asked: Vec<Vec<u8>> =
                child.response.borrow().headers.all(b"www-authenticate").map(<[u8]>::to_vec).collect();
            let mut res = req.response.borrow_mut();
            res.headers.remove(b"www-authenticate");
            asked.iter().for_each(|v| res.headers.push(b"WWW-Authenticate", v));
            Check::Refused(401)
        }
        200..=299 => Check::Granted,
        other => {
            req.log(Level::Error, format!("auth request unexpected status: {other}").as_bytes());
            Check::Refused(500)
        }
    }
}
