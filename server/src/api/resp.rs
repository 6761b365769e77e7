//! `ngx.header` and `ngx.resp.*`: the response's headers.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Table, Value, Vm};

use super::req::{clean_name, header_values, headers_result};
use super::{ApiFn, request};
use crate::conf::model::Level;
use crate::http1::clock;
use crate::lua::args::{set_field, set_index, string};
use crate::lua::worker::LuaWorker;
use crate::phase::Phases;
use crate::request::Request;
use crate::request::response::{HeadState, Response};

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::plain("ngx.resp.get_headers", Phases::REQUEST, get_headers)];

/// The functions of the module `ngx.resp`.
pub const MODULE: &[ApiFn] = &[
    ApiFn::plain("ngx.resp.add_header", Phases::REQUEST, add_header),
    ApiFn::plain("ngx.resp.set_status", Phases::REQUEST, set_status),
    ApiFn::plain("ngx.resp.bypass_if_checks", Phases::REQUEST, bypass_if_checks),
];

/// The functions of the module `resty.core.response`.
pub const CORE: &[ApiFn] = &[
    ApiFn::plain("resty.core.response.set_resp_header", Phases::REQUEST, set_resp_header),
    ApiFn::plain("resty.core.response.bypass_if_checks", Phases::REQUEST, bypass_if_checks),
];

/// `set_resp_header(_, name, value, no_override?)`: `ngx.header[name] = value`, or `add_header`.
fn set_resp_header(vm: &mut Vm, e: Entry) -> NativeResult {
    if vm.arg(3).truthy() {
        let (name, value) = (vm.arg(1), vm.arg(2));
        vm.set_slot(0, name);
        vm.set_slot(1, value);
        return add_header(vm, e);
    }
    newindex(vm, e)
}

/// `add_header(name, value)`: another line beside those of that name. Raises `invalid header value` for nil.
fn add_header(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let name = clean_name(transformed(vm, &req, 0));
    if vm.arg(1).is_nil() {
        return Err(vm.throw_str(b"invalid header value"));
    }
    let values = header_values(vm, 1);
    if refuse_late(&req) {
        return Ok(Outcome::none());
    }
    let mut res = req.response.borrow_mut();
    if SINGLE.iter().any(|s| name.eq_ignore_ascii_case(s)) {
        if !values.is_empty() {
            set(&mut res, &name, values);
        }
        return Ok(Outcome::none());
    }
    values.iter().for_each(|v| res.headers.push(&name, v));
    Ok(Outcome::none())
}

/// Headers of which there is one at most.
const SINGLE: [&[u8]; 12] = [
    b"Server",
    b"Date",
    b"Content-Encoding",
    b"Location",
    b"Refresh",
    b"Last-Modified",
    b"Content-Range",
    b"Accept-Ranges",
    b"Expires",
    b"ETag",
    b"Content-Length",
    b"Content-Type",
];

/// `set_status(status, reason)`: the status with a reason phrase of one's own.
fn set_status(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let Some(n) = vm.to_number(vm.arg(0)) else {
        return Err(vm.throw_str(b"bad argument to set_status: number expected"));
    };
    let reason = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    if req.response.borrow().head != HeadState::Open {
        req.log(Level::Error, b"attempt to set ngx.status after sending out response headers");
        return Ok(Outcome::none());
    }
    req.err_status.set(0);
    let mut res = req.response.borrow_mut();
    res.status = n as u16;
    res.reason = (!reason.is_empty()).then_some(reason);
    Ok(Outcome::none())
}

/// `bypass_if_checks()`: conditions of the request (`If-Modified-Since` and its kin) do not count.
fn bypass_if_checks(vm: &mut Vm, _: Entry) -> NativeResult {
    request(vm)?.response.borrow_mut().unconditional = true;
    Ok(Outcome::none())
}

/// Makes `ngx.header`.
pub fn install(_: &Rc<LuaWorker>, vm: &mut Vm, ngx: Gc<Table>) {
    let t = vm.heap.new_table(0, 0);
    super::ctx::meta(vm, t, index, newindex);
    set_field(vm, ngx, b"header", Value::obj(t));
}

/// The header's name in argument `i`, with `_` made `-` if the configuration says so.
fn transformed(vm: &mut Vm, req: &Request, i: usize) -> Vec<u8> {
    let mut name = vm.raw_text(vm.arg(i));
    if req.location().lua_transform_underscores_in_response_headers {
        name.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
    }
    name
}

/// Whether it is too late for headers; the log says so.
fn refuse_late(req: &Request) -> bool {
    let begun = {
        let res = req.response.borrow();
        res.head == HeadState::Sent || (res.head == HeadState::Open && !res.lane.is_empty())
    };
    if begun {
        let text = b"attempt to set ngx.header.HEADER after sending out response headers";
        req.log(Level::Error, text);
        return true;
    }
    false
}

/// All values of a header, the special ones included.
fn values(res: &Response, name: &[u8]) -> Vec<Vec<u8>> {
    if name.eq_ignore_ascii_case(b"content-type") {
        return res.content_type.iter().cloned().collect();
    }
    let listed: Vec<Vec<u8>> = res.headers.all(name).map(<[u8]>::to_vec).collect();
    if !listed.is_empty() {
        return listed;
    }
    if name.eq_ignore_ascii_case(b"content-length") {
        return res.content_length.iter().map(|n| n.to_string().into_bytes()).collect();
    }
    if name.eq_ignore_ascii_case(b"last-modified") {
        return res.last_modified.iter().map(|t| clock::http_time(*t).into_bytes()).collect();
    }
    Vec::new()
}

/// `ngx.header.NAME`: nil, a text, or an array.
fn index(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let name = transformed(vm, &req, 1);
    let found = values(&req.response.borrow(), &name);
    let v = match &found[..] {
        [] => Value::NIL,
        [one] => string(vm, one),
        many => {
            let t = vm.heap.new_table(many.len() as u32 + 1, 0);
            for (i, v) in many.iter().enumerate() {
                let v = string(vm, v);
                set_index(vm, t, i + 1, v);
            }
            Value::obj(t)
        }
    };
    Ok(Outcome::one(v))
}

/// `ngx.header.NAME = value`: nil and empty arrays remove.
fn newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let name = transformed(vm, &req, 1);
    if refuse_late(&req) {
        return Ok(Outcome::none());
    }
    let name = clean_name(name);
    let values = header_values(vm, 2);
    if name.eq_ignore_ascii_case(b"content-length")
        && values.last().is_some_and(|v| v.is_empty() || !v.iter().all(u8::is_ascii_digit))
    {
        return Err(vm.throw_str(b"failed to set header"));
    }
    set(&mut req.response.borrow_mut(), &name, values);
    Ok(Outcome::none())
}

fn set(res: &mut Response, name: &[u8], values: Vec<Vec<u8>>) {
    let is = |n: &[u8]| name.eq_ignore_ascii_case(n);
    if is(b"content-type") {
        res.no_default_type = values.is_empty();
        res.content_type = values.into_iter().next_back();
        return;
    }
    if is(b"content-length") {
        match values.last() {
            Some(v) => res.headers.set(b"Content-Length", v),
            None => {
                res.headers.remove(name);
            }
        }
        res.content_length =
            values.last().and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.trim().parse().ok());
        return;
    }
    if is(b"server") {
        res.hide_server = values.is_empty();
    }
    if is(b"date") {
        res.hide_date = values.is_empty();
    }
    if is(b"location") {
        res.own_location = false;
    }
    if is(b"last-modified") {
        res.last_modified = values.last().and_then(|v| clock::parse_http_time(v));
    }
    match &values[..] {
        [] => {
            res.headers.remove(name);
        }
        [one] => res.headers.set(name, one),
        many => {
            res.headers.remove(name);
            many.iter().for_each(|v| res.headers.push(name, v));
        }
    }
}

/// `ngx.resp.get_headers(max?, raw?)`.
fn get_headers(vm: &mut Vm, _: Entry) -> NativeResult {
    let max = vm.opt_int(0, 100)?;
    let raw = vm.arg(1).truthy();
    let req = request(vm)?;
    let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    {
        let res = req.response.borrow();
        if let Some(t) = &res.content_type {
            lines.push((b"content-type".to_vec(), t.clone()));
        }
        if let Some(n) = res.content_length {
            lines.push((b"content-length".to_vec(), n.to_string().into_bytes()));
        }
        lines.extend(res.headers.iter().map(|(n, v)| (n.to_vec(), v.to_vec())));
        let connection: &[u8] = if req.keepalive.get() { b"keep-alive" } else { b"close" };
        lines.push((b"connection".to_vec(), connection.to_vec()));
        if res.chunked {
            lines.push((b"transfer-encoding".to_vec(), b"chunked".to_vec()));
        }
    }
    headers_result(vm, lines, max, raw, "response")
}
