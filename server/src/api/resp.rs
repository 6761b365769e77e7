//! `ngx.header` and `ngx.resp.*`: the response's headers.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Table, Value, Vm};

use super::req::{header_values, headers_result};
use super::{ApiFn, request};
use crate::conf::model::Level;
use crate::http1::clock;
use crate::lua::args::{set_field, set_index, string, text_of};
use crate::lua::worker::LuaWorker;
use crate::phase::Phases;
use crate::request::Request;
use crate::request::response::{HeadState, Response};

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::plain("ngx.resp.get_headers", Phases::REQUEST, get_headers)];

/// Makes `ngx.header`.
pub fn install(_: &Rc<LuaWorker>, vm: &mut Vm, ngx: Gc<Table>) {
    let t = vm.heap.new_table(0, 0);
    super::ctx::meta(vm, t, index, newindex);
    set_field(vm, ngx, b"header", Value::obj(t));
}

fn name_of(vm: &mut Vm, req: &Request) -> Result<Vec<u8>, moonlit_vm::host::native::Raised> {
    let Some(mut name) = text_of(vm, vm.arg(1)) else {
        return Err(vm.throw_str(b"bad header name: string expected"));
    };
    if req.location().lua_transform_underscores_in_response_headers {
        name.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
    }
    Ok(name)
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
    let name = name_of(vm, &req)?;
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
    let name = name_of(vm, &req)?;
    if req.response.borrow().head == HeadState::Sent {
        let text = format!(
            "attempt to set ngx.header.{} after sending out response headers",
            String::from_utf8_lossy(&name)
        );
        req.log(Level::Error, text.as_bytes());
        return Ok(Outcome::none());
    }
    let values = header_values(vm, 2)?;
    set(&mut req.response.borrow_mut(), &name, values);
    Ok(Outcome::none())
}

fn set(res: &mut Response, name: &[u8], values: Vec<Vec<u8>>) {
    let is = |n: &[u8]| name.eq_ignore_ascii_case(n);
    if is(b"content-type") {
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
            lines.push((b"Content-Type".to_vec(), t.clone()));
        }
        if let Some(n) = res.content_length {
            lines.push((b"Content-Length".to_vec(), n.to_string().into_bytes()));
        }
        lines.extend(res.headers.iter().map(|(n, v)| (n.to_vec(), v.to_vec())));
        let connection: &[u8] = if req.keepalive.get() { b"keep-alive" } else { b"close" };
        lines.push((b"Connection".to_vec(), connection.to_vec()));
        if res.chunked {
            lines.push((b"Transfer-Encoding".to_vec(), b"chunked".to_vec()));
        }
    }
    headers_result(vm, lines, max, raw)
}
