//! `ngx.exit`, `ngx.redirect`, `ngx.exec`: ways a handler decides about its request.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Table, Vm};

use super::encode::encode_table;
use super::{ApiFn, request};
use crate::conf::model::Level;
use crate::flow::Verdict;
use crate::flow::filters::prepare_head;
use crate::lua::args::{expect_args, text_of};
use crate::lua::thread::Handoff;
use crate::lua::worker::here;
use crate::phase::{ExitRule, Phase, Phases};
use crate::request::response::HeadState;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.exit", Phases::EXIT, exit),
    ApiFn::plain("ngx.redirect", Phases::OUTPUT, redirect),
    ApiFn::plain("ngx.exec", Phases::OUTPUT, exec),
];

/// Ends the run with a verdict; the native does not come back.
pub fn end_run(v: Verdict) -> Outcome {
    let w = here();
    if let Some(run) = w.run() {
        *run.outcome.borrow_mut() = Some(v);
    }
    w.suspend(Handoff::End, 0)
}

/// Refuses to end a request whose subrequests are under way.
pub fn refuse_pending(vm: &mut Vm) -> Result<(), Raised> {
    let pending = here().run().is_some_and(|r| r.subrequests.get() > 0);
    if pending { Err(vm.throw_str(b"attempt to abort with pending subrequests")) } else { Ok(()) }
}

/// `ngx.exit(status)`: see the table of its effects in the phases' documentation.
///
/// Raises `bad argument to 'ngx.exit': does not accept NGX_AGAIN or NGX_DONE`. Does not return where the
/// phase ends at once.
fn exit(vm: &mut Vm, _: Entry) -> NativeResult {
    let status = i64::from(vm.check_int(0)?);
    let w = here();
    let phase = w.phase();
    if matches!(status, -2 | -4) {
        return Err(vm.throw_str(b"bad argument to 'ngx.exit': does not accept NGX_AGAIN or NGX_DONE"));
    }
    if phase == Phase::Timer {
        return Ok(end_run(Verdict::Done));
    }
    let req = request(vm)?;
    if !matches!(status, -1 | 408 | 444 | 499) {
        refuse_pending(vm)?;
    }
    if matches!(phase.info().exit, ExitRule::Later) {
        if let Some(run) = w.run() {
            run.later_exit.set(Some(status));
        }
        return Ok(Outcome::none());
    }
    let begun = {
        let res = req.response.borrow();
        res.head != HeadState::Open || !res.lane.is_empty() || res.gathering
    };
    if begun && status >= 300 && !matches!(status, 408 | 444 | 499) {
        let now = req.response.borrow().status;
        if i64::from(now) != status {
            let text = format!(
                "attempt to set status {status} via ngx.exit after sending out the response status {now}"
            );
            req.log(Level::Error, text.as_bytes());
        }
        return Ok(end_run(Verdict::Done));
    }
    let verdict = match status {
        0 if phase == Phase::Content || begun => Verdict::Done,
        -5 if phase == Phase::Content => Verdict::Close,
        0 | -5 => Verdict::Next,
        200..300 => {
            let mut res = req.response.borrow_mut();
            if res.status == 0 || !begun {
                res.status = status as u16;
                req.err_status.set(0);
            }
            drop(res);
            prepare_head(&req);
            if status == 204 {
                req.response.borrow_mut().content_type = None;
            }
            Verdict::Done
        }
        300.. => {
            let mut res = req.response.borrow_mut();
            if res.status == 0 {
                // A page of the configuration's own that sets none has it.
                res.status = status as u16;
            }
            Verdict::Status(status as u16)
        }
        _ => Verdict::Close,
    };
    Ok(end_run(verdict))
}

/// The first control character of a text; the tabulator is none.
pub fn unsafe_byte(text: &[u8]) -> Option<u8> {
    text.iter().copied().find(|b| *b < 0x20 && *b != b'\t' || *b == 0x7f)
}

/// A text for the log, with escapes for what cannot be seen.
pub fn shown(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text {
        match b {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => out.push_str(&format!("\\x{b:02X}")),
            b => out.push(char::from(*b)),
        }
    }
    out
}

/// `ngx.redirect(uri, status?)`: ends the handler with a redirect, 302 by default.
fn redirect(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=2, "expecting one or two arguments")?;
    let uri = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let status = vm.opt_int(1, 302)?;
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let text = "only ngx.HTTP_MOVED_TEMPORARILY, ngx.HTTP_MOVED_PERMANENTLY, ngx.HTTP_PERMANENT_REDIRECT, \
                    ngx.HTTP_SEE_OTHER, and ngx.HTTP_TEMPORARY_REDIRECT are allowed";
        return Err(vm.throw_str(text.as_bytes()));
    }
    let req = request(vm)?;
    refuse_pending(vm)?;
    if req.response.borrow().head != HeadState::Open {
        return Err(vm.throw_str(b"attempt to call ngx.redirect after sending out the headers"));
    }
    if let Some(b) = unsafe_byte(&uri) {
        let text = format!("unsafe byte \"0x{b:02x}\" in redirect uri \"{}\"", shown(&uri));
        return Err(vm.throw_str(text.as_bytes()));
    }
    let mut res = req.response.borrow_mut();
    res.headers.set(b"Location", &uri);
    res.own_location = false;
    drop(res);
    Ok(end_run(Verdict::Status(status as u16)))
}

/// `ngx.exec(uri, args?)`: ends the handler with an internal redirect; `@name` goes to a named location.
fn exec(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=2, "expecting one or two arguments, but got #")?;
    let uri = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    if uri.is_empty() {
        return Err(vm.throw_str(b"The uri argument is empty"));
    }
    let req = request(vm)?;
    refuse_pending(vm)?;
    if req.response.borrow().head != HeadState::Open {
        return Err(vm.throw_str(b"attempt to call ngx.exec after sending out response headers"));
    }
    let cut = memchr::memchr(b'?', &uri);
    let mut args = cut.map(|n| uri[n + 1..].to_vec()).unwrap_or_default();
    let v = vm.arg(1);
    let more = match v.as_obj::<Table>() {
        Some(t) => encode_table(vm, t)?,
        None if v.is_nil() => Vec::new(),
        None => match text_of(vm, v) {
            Some(t) => t,
            None => {
                let text = format!("string, number, or table expected, but got {}", v.type_name());
                return Err(vm.arg_error(1, text.as_bytes()));
            }
        },
    };
    if !more.is_empty() {
        if !args.is_empty() {
            args.push(b'&');
        }
        args.extend_from_slice(&more);
    }
    let path = &uri[..cut.unwrap_or(uri.len())];
    if path[0] == b'@' {
        if !args.is_empty() {
            let text =
                [b"query strings ", &args[..], b" ignored when exec'ing named location ", path].concat();
            req.log(Level::Warn, &text);
        }
        return Ok(end_run(Verdict::Named(path.to_vec())));
    }
    let target = match crate::request::uri::normalise(path, false) {
        Ok(t) if path.starts_with(b"/") => t.uri,
        _ => {
            req.log(Level::Error, &[b"unsafe URI \"", path, b"\" was detected"].concat());
            return Err(vm.throw_str(b"unsafe uri"));
        }
    };
    req.args_given.set(cut.is_some());
    Ok(end_run(Verdict::Internal { uri: target, args: Some(args) }))
}
