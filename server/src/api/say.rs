//! Output: `ngx.say`, `ngx.print`, `ngx.flush`, `ngx.eof`, `ngx.send_headers`.

use std::rc::Rc;
use std::task::Poll;

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Value, Vm};

use super::{ApiFn, request};
use crate::flow::filters::{gathers, prepare_head, submit};
use crate::lua::args::{Loose, NoText, append_text, expect_args, fail, string};
use crate::lua::bridge::wait;
use crate::lua::thread::Handoff;
use crate::lua::worker::here;
use crate::phase::Phases;
use crate::request::Request;
use crate::request::response::{Chunk, HeadState};

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.say", Phases::OUTPUT, say),
    ApiFn::plain("ngx.print", Phases::OUTPUT, print),
    ApiFn::yields("ngx.flush", Phases::OUTPUT, flush),
    ApiFn::plain("ngx.eof", Phases::OUTPUT, eof),
    ApiFn::plain("ngx.send_headers", Phases::OUTPUT, send_headers),
];

/// `ngx.say(...)`: `ngx.print` and a newline.
fn say(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut data = gather(vm, "say")?;
    data.push(b'\n');
    emit(vm, data, false)
}

/// `ngx.print(...)`: sends texts, numbers, words for nil and booleans, and nested arrays of them.
///
/// Returns 1, or nil and `seen eof`, `header only`, `nginx output filter error`, `raw request socket acquired`. Waits while a filter
/// of the response waits. Source: lua-nginx-module README, "ngx.print".
fn print(vm: &mut Vm, _: Entry) -> NativeResult {
    let data = gather(vm, "print")?;
    emit(vm, data, false)
}

/// Room for what a call mostly says.
const SHORT_BYTES: usize = 64;

fn gather(vm: &mut Vm, name: &str) -> Result<Vec<u8>, Raised> {
    let mut out = Vec::with_capacity(SHORT_BYTES);
    for i in 0..vm.nargs() {
        let v = vm.arg(i);
        match append_text(vm, v, Loose::Words, &mut out) {
            Ok(()) => {}
            Err(NoText::NonArray) => {
                return Err(vm.arg_error(i, b"non-array table found"));
            }
            Err(NoText::Nested) => return Err(vm.arg_error(i, NoText::NESTED.as_bytes())),
            Err(NoText::Type(t)) => {
                let in_table = v.type_name() == "table";
                let text = if in_table {
                    format!("bad data type {t} found")
                } else {
                    format!("string, number, boolean, nil, ngx.null, or array table expected, but got {t}")
                };
                let _ = name;
                return Err(vm.arg_error(i, text.as_bytes()));
            }
        }
    }
    Ok(out)
}

/// Sends a chunk on its way; waits for the filters if they wait.
fn emit(vm: &mut Vm, data: Vec<u8>, last: bool) -> NativeResult {
    let req = request(vm)?;
    if req.response.borrow().taken {
        return fail(vm, "raw request socket acquired");
    }
    if req.response.borrow().eof {
        return fail(vm, "seen eof");
    }
    prepare_head(&req);
    if gathers(&req) {
        if !req.response.borrow().gathering {
            here().debug(|| "lua buffering output bufs for the HTTP 1.0 request");
        }
        let mut res = req.response.borrow_mut();
        res.gathering = true;
        res.gathered.extend_from_slice(&data);
        if !last {
            return Ok(Outcome::one(Value::int(1)));
        }
        let whole = std::mem::take(&mut res.gathered);
        res.gathering = false;
        res.content_length = Some(whole.len() as u64);
        drop(res);
        return pass(vm, &req, Chunk { data: whole, last: true, ..Chunk::default() });
    }
    if req.is_head() && !last {
        send_head_only(&req);
        return fail(vm, "header only");
    }
    pass(vm, &req, Chunk { data, last, ..Chunk::default() })
}

fn send_head_only(req: &Rc<Request>) {
    if req.response.borrow().head == HeadState::Open
        && let Some(flow) = here().flow.get()
    {
        submit(flow, req, Chunk { head_only: true, ..Chunk::default() });
    }
}

fn pass(vm: &mut Vm, req: &Rc<Request>, chunk: Chunk) -> NativeResult {
    let w = here();
    let Some(flow) = w.flow.get() else { return Err(vm.throw_str(b"no request found")) };
    let ticket = submit(flow, req, chunk);
    let (passed, failed) = {
        let res = req.response.borrow();
        (res.has_passed(ticket), res.failed)
    };
    // A header filter may have put a page in the place of the response.
    if failed || req.conn.is_broken() || req.response.borrow().refused.is_some() {
        return fail(vm, "nginx output filter error");
    }
    if passed {
        return Ok(Outcome::one(Value::int(1)));
    }
    let req = req.clone();
    let pending = move |vm: &mut Vm, cx: &mut std::task::Context<'_>| {
        req.response.borrow_mut().poll_passed(cx, ticket).map(|ok| {
            if ok { vec![Value::int(1)] } else { vec![Value::NIL, string(vm, "nginx output filter error")] }
        })
    };
    Ok(w.suspend(Handoff::Wait(Box::new(pending)), 0))
}

/// `ngx.eof()`: ends the response; the handler may go on without it.
fn eof(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 0..=0, "no argument is expected")?;
    let req = request(vm)?;
    req.flushing.set(true);
    emit(vm, Vec::new(), true)
}

/// `ngx.send_headers()`.
fn send_headers(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    prepare_head(&req);
    if req.response.borrow().head == HeadState::Open && !gathers(&req) {
        return pass(vm, &req, Chunk { head_only: true, ..Chunk::default() });
    }
    Ok(Outcome::one(Value::int(1)))
}

/// `ngx.flush(wait?)`: sends what is gathered; with `true` waits until it is with the system.
fn flush(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 0..=1, "attempt to pass # arguments, but accepted 0 or 1")?;
    if vm.nargs() == 1 && !vm.arg(0).is_bool() {
        return Err(vm.type_error(0, "boolean"));
    }
    let req = request(vm)?;
    if req.response.borrow().taken {
        return fail(vm, "raw request socket acquired");
    }
    if req.is_head() {
        return fail(vm, "header only");
    }
    if req.response.borrow().gathering {
        here().debug(|| "lua http 1.0 buffering makes ngx.flush() a no-op");
        return fail(vm, "buffering");
    }
    if req.response.borrow().head == HeadState::Open && req.response.borrow().lane.is_empty() {
        return fail(vm, "nothing to flush");
    }
    req.flushing.set(true);
    if !vm.arg(0).truthy() {
        return Ok(Outcome::one(Value::int(1)));
    }
    let r = req.clone();
    let drained = std::future::poll_fn(move |cx| {
        if !r.response.borrow().is_quiet() {
            r.response.borrow_mut().watch(cx);
            return Poll::Pending;
        }
        r.flushing.set(true);
        match r.conn.poll_flush(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(x) => {
                r.flushing.set(false);
                Poll::Ready(x)
            }
        }
    });
    wait(vm, drained, |vm, r: std::io::Result<()>| match r {
        Ok(()) => vec![Value::int(1)],
        Err(_) => vec![Value::NIL, string(vm, "client aborted")],
    })
}
