//! `ngx.location.capture` and `capture_multi`: requests inside the server.

use std::rc::Rc;
use std::task::{Context, Poll};

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Raised, Str, Table, Value, Vm};

use super::consts::METHODS;
use super::encode::{add_multi, encode_table};
use super::{ApiFn, ctx, request};
use crate::conf::model::Level;
use crate::http1::clock;
use crate::lua::args::{array_values, expect_args, pairs, set_field, string, text_of};
use crate::lua::children::Child;
use crate::lua::thread::{Handoff, Light, Run};
use crate::lua::worker::here;
use crate::phase::Phases;
use crate::request::Request;
use crate::request::body::Body;
use crate::request::response::Sink;
use crate::request::subrequest::{DEPTH_MAX, Spec, create, depth};
use crate::request::vars::{SetError, set as set_var};

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::yields("ngx.location.capture", Phases::CAPTURE, capture),
    ApiFn::yields("ngx.location.capture_multi", Phases::CAPTURE, capture_multi),
];

/// `ngx.location.capture(uri, options?)`: a table with `status`, `header`, `body`, `truncated`.
///
/// Raises `unsafe uri in argument #1: ...` and the texts of bad options. Waits until the response is whole.
fn capture(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=2, "expecting one or two arguments")?;
    let uri = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let options = vm.arg(1);
    let r = subrequest(vm, 0, &uri, options)?;
    wait_for(vm, vec![r])
}

/// `ngx.location.capture_multi({{uri, options?}, ...})`: one table per request, in order.
fn capture_multi(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=1, "only one argument is expected, but got #")?;
    let list = vm.check_tab(0)?;
    let items = array_values(vm, list);
    if items.is_empty() {
        return Err(vm.throw_str(b"at least one subrequest should be specified"));
    }
    let mut made = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        let Some(t) = item.as_obj::<Table>() else {
            let text = format!("the query argument {n} is not a table, but a {}", item.type_name());
            return Err(vm.throw_str(text.as_bytes()));
        };
        let uri = t.geti(&vm.heap, 1);
        let Some(uri) = text_of(vm, uri) else {
            let text = format!("query argument {n} expecting one or two arguments");
            return Err(vm.throw_str(text.as_bytes()));
        };
        let options = t.geti(&vm.heap, 2);
        made.push(subrequest(vm, n, &uri, options)?);
    }
    wait_for(vm, made)
}

fn option(vm: &Vm, options: Option<Gc<Table>>, name: &str) -> Value {
    options.map_or(Value::NIL, |t| t.get_bytes(&vm.heap, name.as_bytes()))
}

fn flag(vm: &mut Vm, options: Option<Gc<Table>>, name: &str) -> Result<bool, Raised> {
    match option(vm, options, name) {
        v if v.is_nil() || v.is_bool() => Ok(v.truthy()),
        _ => Err(bad(vm, &format!("Bad {name} option value"))),
    }
}

fn bad(vm: &mut Vm, what: &str) -> Raised {
    vm.throw_str(what.as_bytes())
}

/// Makes the `n`th of the subrequests of a call.
fn subrequest(vm: &mut Vm, n: usize, uri: &[u8], options: Value) -> Result<Rc<Request>, Raised> {
    let parent = request(vm)?;
    if !options.is_nil() && !options.is::<Table>() {
        let what = options.type_name();
        let text = format!("expecting table as the 2nd argument for subrequest {n}, but got {what}");
        return Err(bad(vm, &text));
    }
    let options = options.as_obj::<Table>();
    let cut = memchr::memchr(b'?', uri);
    let path = &uri[..cut.unwrap_or(uri.len())];
    let target = match crate::request::uri::normalise(path, false) {
        Ok(t) if !path.starts_with(b"@") && !path.is_empty() => t.uri,
        _ => {
            let text = format!("unsafe uri in argument #1: {}", String::from_utf8_lossy(uri));
            return Err(bad(vm, &text));
        }
    };
    if depth(&parent) >= DEPTH_MAX {
        let text = format!("lua subrequests cycle while processing \"{}\"", String::from_utf8_lossy(path));
        parent.log(Level::Error, text.as_bytes());
        return Err(bad(vm, "failed to issue subrequest: -1"));
    }
    let mut args = cut.map(|n| uri[n + 1..].to_vec()).unwrap_or_default();
    let more = option(vm, options, "args");
    let more = match (more.as_obj::<Table>(), more.type_name()) {
        (Some(t), _) => encode_table(vm, t)?,
        (None, "nil") => Vec::new(),
        (None, "string" | "number") => vm.raw_text(more),
        _ => return Err(bad(vm, "Bad args option value")),
    };
    if !more.is_empty() {
        if !args.is_empty() {
            args.push(b'&');
        }
        args.extend_from_slice(&more);
    }
    let method = option(vm, options, "method");
    let method = match method.as_num() {
        None if method.is_nil() => "GET",
        None => return Err(bad(vm, "Bad http request method")),
        Some(n) => match METHODS.iter().find(|(bit, _)| f64::from(*bit) == n) {
            Some((_, name)) => name,
            None => {
                parent.log(Level::Error, format!("unsupported HTTP method: {n}").as_bytes());
                return Err(bad(vm, "failed to adjust the subrequest: -1"));
            }
        },
    };
    let body = option(vm, options, "body");
    let forward = option(vm, options, "always_forward_body").truthy() || matches!(method, "POST" | "PUT");
    let body = match body.type_name() {
        "string" | "number" => Some(vm.raw_text(body)),
        "nil" if forward => match &*parent.body.borrow() {
            Body::Memory(b) => Some(b.clone()),
            Body::File(f) => std::fs::read(&f.path).ok(),
            _ => None,
        },
        "nil" => None,
        _ => return Err(bad(vm, "Bad http request body")),
    };
    let headers = text_pairs(vm, options, "headers", "Bad headers option value")?;
    let vars = text_pairs(vm, options, "vars", "Bad vars option value")?;
    let shared = option(vm, options, "ctx");
    if !shared.is_nil() && !shared.is::<Table>() {
        let text = format!("Bad ctx option value type {}, expected a Lua table", shared.type_name());
        return Err(bad(vm, &text));
    }
    let spec = Spec {
        method: method.as_bytes().to_vec(),
        uri: target,
        args,
        args_given: cut.is_some(),
        body,
        headers,
        share_vars: flag(vm, options, "share_all_vars")?,
        copy_vars: flag(vm, options, "copy_all_vars")?,
    };
    let w = here();
    let Some(flow) = w.flow.get() else { return Err(vm.throw_str(b"no request found")) };
    let child = create(&flow.spare, &parent, spec);
    for (name, value) in vars {
        let Err(why) = set_var(&child, &name, Some(&value)) else { continue };
        let (what, code): (&[u8], _) = match why {
            SetError::ReadOnly => (b"\" not changeable", 500),
            SetError::Unknown => {
                (b"\" cannot be assigned a value (maybe you forgot to define it first?) ", -1)
            }
        };
        parent.log(Level::Error, &[b"variable \"", &name[..], what].concat());
        return Err(bad(vm, &format!("failed to adjust the subrequest: {code}")));
    }
    if !shared.is_nil() {
        ctx::keep(vm, &child, shared);
    }
    Ok(child)
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn text_pairs(vm: &mut Vm, options: Option<Gc<Table>>, name: &str, error: &str) -> Result<Pairs, Raised> {
    let v = option(vm, options, name);
    if v.is_nil() {
        return Ok(Vec::new());
    }
    let Some(t) = v.as_obj::<Table>() else { return Err(bad(vm, error)) };
    let mut out = Vec::new();
    for (k, v) in pairs(vm, t) {
        let key = k.as_obj::<Str>().map(|s| s.bytes(&vm.heap).to_vec());
        match (key, text_of(vm, v)) {
            (Some(k), Some(v)) => out.push((k, v)),
            (Some(_), None) => {
                let text = format!("attempt to use bad variable value type {}", v.type_name());
                return Err(bad(vm, &text));
            }
            (None, _) => return Err(bad(vm, error)),
        }
    }
    Ok(out)
}

/// Subrequests under way. They are driven by the run they belong to, outside of the VM: they may run Lua, which must
/// not be entered from inside Lua. Dropped, it stops them.
struct Running {
    run: Rc<Run>,
    light: Option<Rc<Light>>,
    list: Vec<Rc<Request>>,
}

impl Running {
    fn new(run: Rc<Run>, light: Option<Rc<Light>>, list: Vec<Rc<Request>>) -> Running {
        run.children.borrow_mut().extend(list.iter().cloned().map(Child::new));
        run.subrequests.set(run.subrequests.get() + 1);
        if let Some(light) = &light {
            light.subrequests.set(light.subrequests.get() + 1);
        }
        Running { run, light, list }
    }

    /// Whether one of them still goes on.
    fn is_busy(&self) -> bool {
        let children = self.run.children.borrow();
        self.list.iter().any(|r| children.iter().any(|c| c.is_of(r)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.run.subrequests.set(self.run.subrequests.get() - 1);
        if let Some(light) = &self.light {
            light.subrequests.set(light.subrequests.get() - 1);
        }
        let stopped = {
            let mut children = self.run.children.borrow_mut();
            let (stopped, others): (Vec<Child>, Vec<Child>) =
                children.drain(..).partition(|c| self.list.iter().any(|r| c.is_of(r)));
            *children = others;
            stopped
        };
        drop(stopped);
    }
}

fn wait_for(vm: &mut Vm, made: Vec<Rc<Request>>) -> NativeResult {
    let w = here();
    let Some(run) = w.run() else { return Err(vm.throw_str(b"no request found")) };
    for r in &made {
        w.debug(|| [b"lua http subrequest \"", &r.uri.borrow()[..], b"?", &r.args.borrow(), b"\""].concat());
    }
    let mut running = Running::new(run, w.light(), made);
    let pending = move |vm: &mut Vm, _: &mut Context<'_>| {
        if running.is_busy() {
            return Poll::Pending;
        }
        let results = running.list.iter().map(|r| result_of(vm, r)).collect::<Vec<Value>>();
        if let Some(flow) = here().flow.get() {
            running.list.drain(..).for_each(|r| flow.spare.give(r));
        }
        Poll::Ready(results)
    };
    Ok(w.suspend(Handoff::Wait(Box::new(pending)), 0))
}

/// `{status, header, body, truncated}`.
fn result_of(vm: &mut Vm, req: &Rc<Request>) -> Value {
    let res = req.response.borrow();
    let header = vm.heap.new_table(0, 3);
    let add = |vm: &mut Vm, name: &[u8], value: &[u8]| {
        let v = string(vm, value);
        add_multi(vm, header, name, v);
    };
    if let Some(t) = &res.content_type {
        add(vm, b"Content-Type", t);
    }
    if let Some(n) = res.content_length {
        add(vm, b"Content-Length", n.to_string().as_bytes());
    }
    if let Some(t) = res.last_modified {
        add(vm, b"Last-Modified", clock::http_time(t).as_bytes());
    }
    for (name, value) in res.headers.iter() {
        add(vm, name, value);
    }
    let body: &[u8] = if let Sink::Memory(b) = &res.sink { b } else { b"" };
    let body = string(vm, body);
    let t = vm.heap.new_table(0, 2);
    let status = match res.status {
        // It ended without an answer.
        _ if req.gone.get() && req.err_status.get() != 0 => req.err_status.get(),
        _ if req.gone.get() => 500,
        s => s,
    };
    set_field(vm, t, b"status", Value::int(i32::from(status)));
    set_field(vm, t, b"header", Value::obj(header));
    set_field(vm, t, b"body", body);
    set_field(vm, t, b"truncated", Value::bool(res.failed || !res.done));
    Value::obj(t)
}
