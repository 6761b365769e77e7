//! `ngx.req.*`: what came in, and changes to it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use moonlit_vm::host::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Table, Value, Vm};

use super::consts::METHODS;
use super::encode::{add_multi, args_result, encode_table};
use super::exit::{end_run, refuse_pending, shown, unsafe_byte};
use super::{ApiFn, request, yes};
use crate::flow::Verdict;
use crate::lua::args::{array_values, expect_args, fail, results, set_field, string, text_of};
use crate::lua::thread::Handoff;
use crate::lua::worker::{Rooted, here};
use crate::phase::{Phase, Phases};
use crate::request::Request;
use crate::request::body::{Body, BodyError, BodyFile, BodyWriter, read_body};
use crate::request::escape::{Place, escape, is_plain};

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.req.get_method", Phases::REQUEST, get_method),
    ApiFn::plain("ngx.req.set_method", Phases::REQUEST, set_method),
    ApiFn::plain("ngx.req.http_version", Phases::REQUEST, http_version),
    ApiFn::plain("ngx.req.raw_header", Phases::REQUEST, raw_header),
    ApiFn::plain("ngx.req.get_headers", Phases::REQUEST, get_headers),
    ApiFn::plain("ngx.req.set_header", Phases::REQUEST, set_header),
    ApiFn::plain("ngx.req.clear_header", Phases::REQUEST, clear_header),
    ApiFn::plain("ngx.req.get_uri_args", Phases::REQUEST, get_uri_args),
    ApiFn::plain("ngx.req.set_uri_args", Phases::REQUEST, set_uri_args),
    ApiFn::plain("ngx.req.set_uri", Phases::REQUEST, set_uri),
    ApiFn::plain("ngx.req.get_post_args", Phases::REQUEST, get_post_args),
    ApiFn::yields("ngx.req.read_body", Phases::OUTPUT, read_body_fn),
    ApiFn::plain("ngx.req.discard_body", Phases::REQUEST, discard_body),
    ApiFn::plain("ngx.req.get_body_data", Phases::REQUEST, get_body_data),
    ApiFn::plain("ngx.req.get_body_file", Phases::REQUEST, get_body_file),
    ApiFn::plain("ngx.req.set_body_data", Phases::REQUEST, set_body_data),
    ApiFn::plain("ngx.req.set_body_file", Phases::REQUEST, set_body_file),
    ApiFn::plain("ngx.req.init_body", Phases::REQUEST, init_body),
    ApiFn::plain("ngx.req.append_body", Phases::REQUEST, append_body),
    ApiFn::plain("ngx.req.finish_body", Phases::REQUEST, finish_body),
    ApiFn::plain("ngx.req.is_internal", Phases::REQUEST, is_internal),
];

/// `ngx.req.get_method()`.
fn get_method(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let m = req.method.borrow();
    Ok(Outcome::one(string(vm, &*m)))
}

/// `ngx.req.set_method(id)`: one of the `ngx.HTTP_*` method constants.
fn set_method(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(n) = vm.arg(0).as_num() else { return Err(vm.throw_str(b"bad method number")) };
    let req = request(vm)?;
    match METHODS.iter().find(|(bit, _)| f64::from(*bit) == n) {
        Some((_, name)) => *req.method.borrow_mut() = name.as_bytes().to_vec(),
        None => return Err(vm.throw_str(format!("unsupported HTTP method: {n}").as_bytes())),
    }
    Ok(Outcome::none())
}

/// `ngx.req.http_version()`: 1.1, 1.0, 0.9.
fn http_version(vm: &mut Vm, _: Entry) -> NativeResult {
    let v = request(vm)?.version;
    let n = if v == 9 { 0.9 } else { f64::from(v / 1000) + f64::from(v % 1000) / 10.0 };
    Ok(Outcome::one(Value::num(n)))
}

/// `ngx.req.raw_header(no_request_line?)`: the head as it was sent.
fn raw_header(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let headers = req.headers.borrow();
    let raw = headers.bytes(crate::http1::parse::Span::new(0, req.head_len));
    let start = if vm.arg(0).truthy() {
        let line_end = (req.line.start + req.line.len) as usize;
        memchr::memchr(b'\n', &raw[line_end..]).map_or(raw.len(), |n| line_end + n + 1)
    } else {
        req.line.start as usize
    };
    let text = raw[start..].to_vec();
    Ok(Outcome::one(string(vm, text)))
}

/// `ngx.req.get_headers(max?, raw?)`: a table by lower-case name; looking up any other spelling works too.
fn get_headers(vm: &mut Vm, _: Entry) -> NativeResult {
    let max = vm.opt_int(0, 100)?;
    let raw = vm.arg(1).truthy();
    let req = request(vm)?;
    let lines: Vec<(Vec<u8>, Vec<u8>)> =
        req.headers.borrow().iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
    headers_result(vm, lines, max, raw, "request")
}

/// The results of both `get_headers` functions.
pub fn headers_result(
    vm: &mut Vm,
    lines: Vec<(Vec<u8>, Vec<u8>)>,
    max: i32,
    raw: bool,
    whose: &str,
) -> NativeResult {
    let t = vm.heap.new_table(0, 4);
    let limit = if max > 0 { max as usize } else { usize::MAX };
    let more = lines.len() > limit;
    if more {
        let n = lines.len();
        here().debug(|| format!("lua exceeding {whose} header limit {n} > {limit}"));
    }
    for (mut name, value) in lines.into_iter().take(limit) {
        if !raw {
            name.make_ascii_lowercase();
        }
        let v = string(vm, value);
        add_multi(vm, t, &name, v);
    }
    if !raw {
        let meta = headers_meta(vm);
        vm.heap.set_metatable(t, meta.as_obj());
    }
    if more {
        let err = string(vm, "truncated");
        return results(vm, &[Value::obj(t), err]);
    }
    Ok(Outcome::one(Value::obj(t)))
}

struct HeadersMeta(Rooted);

fn headers_meta(vm: &mut Vm) -> Value {
    if let Some(m) = vm.app.get::<HeadersMeta>() {
        return m.0.get(vm);
    }
    let f = vm.new_native(NativeRow::new("__index", normalised_index), &[]);
    let m = vm.heap.new_table(0, 1);
    set_field(vm, m, b"__index", Value::obj(f));
    let kept = Rooted::new(&here(), vm, Value::obj(m));
    vm.app.set(HeadersMeta(kept));
    Value::obj(m)
}

/// `headers["X_Foo"]` finds `x-foo`.
fn normalised_index(vm: &mut Vm, _: Entry) -> NativeResult {
    let (Some(t), Some(k)) = (vm.arg(0).as_obj::<Table>(), text_of(vm, vm.arg(1))) else {
        return Ok(Outcome::one(Value::NIL));
    };
    let mut name = k.to_ascii_lowercase();
    name.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
    Ok(Outcome::one(t.get_bytes(&vm.heap, &name)))
}

/// The values given for a header in argument `i`: a text, or an array of texts; none for nil and empty arrays.
pub fn header_values(vm: &mut Vm, i: usize) -> Vec<Vec<u8>> {
    let v = vm.arg(i);
    if v.is_nil() {
        return Vec::new();
    }
    let items = match v.as_obj::<Table>() {
        Some(t) => array_values(vm, t),
        None => return vec![clean_value(vm.raw_text(v))],
    };
    items.into_iter().map(|v| clean_value(vm.raw_text(v))).collect()
}

fn escaped(text: Vec<u8>, place: Place) -> Vec<u8> {
    if is_plain(&text, place) {
        return text;
    }
    let mut out = Vec::with_capacity(text.len() + 8);
    escape(&text, place, &mut out);
    out
}

/// Control characters must not reach the wire: they are escaped.
fn clean_value(v: Vec<u8>) -> Vec<u8> {
    escaped(v, Place::HeaderValue)
}

/// What is no token character is escaped in names.
pub fn clean_name(name: Vec<u8>) -> Vec<u8> {
    escaped(name, Place::HeaderName)
}

/// `ngx.req.set_header(name, value)`.
fn set_header(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = header_name(vm)?;
    let values = header_values(vm, 1);
    apply_header(vm, &name, &values, true)
}

/// `ngx.req.clear_header(name)`.
fn clear_header(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = clean_name(vm.raw_text(vm.arg(0)));
    apply_header(vm, &name, &[], true)
}

/// The functions of the module `ngx.req`.
pub const MODULE: &[ApiFn] = &[ApiFn::plain("ngx.req.add_header", Phases::REQUEST, add_header)];

/// `add_header(name, value)`: another line beside those of that name.
///
/// Raises `bad 'value' argument: string or table expected, got nil`, `bad 'value' argument: non-empty table
/// expected`.
fn add_header(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = header_name(vm)?;
    if vm.arg(1).is_nil() {
        return Err(vm.throw_str(b"bad 'value' argument: string or table expected, got nil"));
    }
    let values = header_values(vm, 1);
    if values.is_empty() {
        return Err(vm.throw_str(b"bad 'value' argument: non-empty table expected"));
    }
    apply_header(vm, &name, &values, false)
}

fn header_name(vm: &mut Vm) -> Result<Vec<u8>, Raised> {
    match vm.arg(0) {
        v if v.is_nil() => Err(vm.throw_str(b"bad 'name' argument: string expected, got nil")),
        v => Ok(clean_name(vm.raw_text(v))),
    }
}

/// Request headers of which there is one at most: another one takes the first one's place.
const SINGLE: [&[u8]; 22] = [
    b"Host",
    b"Connection",
    b"If-Modified-Since",
    b"If-Unmodified-Since",
    b"If-Match",
    b"If-None-Match",
    b"User-Agent",
    b"Referer",
    b"Content-Length",
    b"Content-Type",
    b"Range",
    b"If-Range",
    b"Transfer-Encoding",
    b"Expect",
    b"Upgrade",
    b"Accept-Encoding",
    b"Via",
    b"Authorization",
    b"Keep-Alive",
    b"X-Real-IP",
    b"Depth",
    b"Destination",
];

fn apply_header(vm: &mut Vm, name: &[u8], values: &[Vec<u8>], replace: bool) -> NativeResult {
    let req = request(vm)?;
    if req.version < 1000 {
        // HTTP/0.9 has no headers, whoever sets them.
        return Ok(Outcome::none());
    }
    let is_host = name.eq_ignore_ascii_case(b"host");
    let values = if is_host && values.iter().all(Vec::is_empty) { &[] } else { values };
    let mut headers = req.headers.borrow_mut();
    let single = SINGLE.iter().any(|s| name.eq_ignore_ascii_case(s));
    match values {
        [] => {
            headers.remove(name);
        }
        [.., last] if single => headers.set(name, last),
        [one] if replace => headers.set(name, one),
        many => {
            if replace {
                headers.remove(name);
            }
            many.iter().for_each(|v| headers.push(name, v));
        }
    }
    drop(headers);
    if is_host {
        let host = values.last().cloned().unwrap_or_default().to_ascii_lowercase();
        let end = memchr::memchr(b':', &host).unwrap_or(host.len());
        *req.host.borrow_mut() = host[..end].to_vec();
    }
    Ok(Outcome::none())
}

/// `ngx.req.get_uri_args(max?, tab?)`: into `tab`, which is emptied, if it is given.
fn get_uri_args(vm: &mut Vm, _: Entry) -> NativeResult {
    let max = vm.opt_int(0, 100)?;
    let into = match vm.arg(1) {
        v if v.truthy() => Some(vm.check_tab(1)?),
        _ => None,
    };
    let query = request(vm)?.args.borrow().clone();
    args_result(vm, &query, max, into)
}

/// `ngx.req.set_uri_args(args)`: a query as text, number or table.
fn set_uri_args(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=1, "expecting 1 argument but seen #")?;
    let v = vm.arg(0);
    let args = match v.as_obj::<Table>() {
        Some(t) => encode_table(vm, t)?,
        None => match text_of(vm, v) {
            Some(t) => {
                let mut out = Vec::new();
                for b in t {
                    if b <= 0x20 || b == 0x7f {
                        escape(&[b], Place::Component, &mut out);
                    } else {
                        out.push(b);
                    }
                }
                out
            }
            None => {
                let text = format!("string, number, or table expected, but got {}", v.type_name());
                return Err(vm.arg_error(0, text.as_bytes()));
            }
        },
    };
    let req = request(vm)?;
    *req.args.borrow_mut() = args;
    req.args_given.set(true);
    Ok(Outcome::none())
}

/// `ngx.req.set_uri(uri, jump?, binary?)`: with `jump` the handler ends and a location is looked up again.
fn set_uri(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=3, "expecting 1, 2 or 3 arguments but seen #")?;
    let uri = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    if uri.is_empty() {
        return Err(vm.throw_str(b"attempt to use zero-length uri"));
    }
    if !vm.arg(2).truthy()
        && let Some(b) = unsafe_byte(&uri)
    {
        let text = format!(
            "unsafe byte \"0x{b:02x}\" in uri \"{}\" (maybe you want to set the 'binary' argument?)",
            shown(&uri)
        );
        return Err(vm.throw_str(text.as_bytes()));
    }
    let req = request(vm)?;
    let jump = vm.arg(1).truthy();
    if jump && !matches!(req.phase.get(), Phase::Rewrite | Phase::ServerRewrite) {
        return Err(super::disabled(vm, req.phase.get()));
    }
    if jump {
        refuse_pending(vm)?;
    }
    if jump {
        let shown = shown(&uri);
        here().debug(|| format!("lua set uri jump to \"{shown}\""));
    }
    *req.uri.borrow_mut() = uri;
    req.internal.set(true);
    if jump {
        return Ok(end_run(Verdict::UriChanged));
    }
    Ok(Outcome::none())
}

/// `ngx.req.get_post_args(max?)`: the body as a query; it must have been read.
fn get_post_args(vm: &mut Vm, _: Entry) -> NativeResult {
    let max = vm.opt_int(0, 100)?;
    let req = request(vm)?;
    let body = match &*req.body.borrow() {
        Body::Memory(b) => b.clone(),
        Body::File(_) => return fail(vm, "request body in temp file not supported"),
        Body::Discarded => Vec::new(),
        Body::Unread | Body::Reading | Body::Taken | Body::Writing(_) => {
            let text = b"no request body found; maybe you should turn on lua_need_request_body?";
            return Err(vm.throw_str(text));
        }
    };
    args_result(vm, &body, max, None)
}

/// `ngx.req.read_body()`: reads the whole body into memory or a file. A body that is too large or broken
/// ends the request.
fn read_body_fn(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 0..=0, "expecting 0 arguments but seen #")?;
    let req = request(vm)?;
    let w = here();
    let Some(run) = w.run() else { return Err(vm.throw_str(b"no request found")) };
    let mut reading = read_body(&req);
    let mut poll = move |cx: &mut Context<'_>| match Pin::new(&mut reading).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(()),
        Poll::Ready(Err(e)) => {
            *run.outcome.borrow_mut() = Some(match e {
                BodyError::Status(s) => Verdict::Status(s),
                BodyError::Gone => Verdict::Close,
            });
            Poll::Pending
        }
        Poll::Pending => Poll::Pending,
    };
    if w.with_cx(&mut poll).is_ready() {
        return Ok(Outcome::none());
    }
    let pending = move |_: &mut Vm, cx: &mut Context<'_>| poll(cx).map(|()| Vec::new());
    Ok(w.suspend(Handoff::Wait(Box::new(pending)), 0))
}

/// `ngx.req.discard_body()`: what is left of the body is dropped when the request ends.
fn discard_body(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let mut body = req.body.borrow_mut();
    if matches!(*body, Body::Unread) {
        *body = Body::Discarded;
    }
    Ok(Outcome::none())
}

/// `ngx.req.get_body_data(max?)`: nil when it is not read, in a file or empty.
fn get_body_data(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let max = vm.opt_int(0, 0)?;
    let v = match &*req.body.borrow() {
        Body::Memory(b) if !b.is_empty() => {
            let n = if max > 0 { b.len().min(max as usize) } else { b.len() };
            string(vm, &b[..n])
        }
        _ => Value::NIL,
    };
    Ok(Outcome::one(v))
}

/// `ngx.req.get_body_file()`: a path, or nil.
fn get_body_file(vm: &mut Vm, _: Entry) -> NativeResult {
    let req = request(vm)?;
    let v = match &*req.body.borrow() {
        Body::File(f) => string(vm, f.path.to_string_lossy().as_bytes()),
        _ => Value::NIL,
    };
    Ok(Outcome::one(v))
}

/// Raises `request body already discarded asynchronously` or `request body not read yet` unless there is a
/// body that can be replaced.
fn replaceable(vm: &mut Vm, req: &Request) -> Result<(), Raised> {
    match &*req.body.borrow() {
        Body::Discarded => Err(vm.throw_str(b"request body already discarded asynchronously")),
        Body::Unread | Body::Reading | Body::Taken => Err(vm.throw_str(b"request body not read yet")),
        Body::Memory(_) | Body::File(_) | Body::Writing(_) => Ok(()),
    }
}

fn replace_body(req: &Request, body: Body, len: u64) {
    req.headers.borrow_mut().set(b"Content-Length", len.to_string().as_bytes());
    *req.body.borrow_mut() = body;
}

/// `ngx.req.set_body_data(text)`: replaces a body that has been read.
fn set_body_data(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=1, "expecting 1 arguments but seen #")?;
    let data = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let req = request(vm)?;
    replaceable(vm, &req)?;
    let len = data.len() as u64;
    replace_body(&req, Body::Memory(data), len);
    Ok(Outcome::none())
}

/// `ngx.req.set_body_file(path, auto_clean?)`: replaces the body by a file, which with `auto_clean` is deleted
/// with the request.
///
/// Raises `stat() "PATH" failed` and `open() "PATH" failed` besides what `set_body_data` raises.
fn set_body_file(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=2, "expecting 1 or 2 arguments but seen #")?;
    let name = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let req = request(vm)?;
    replaceable(vm, &req)?;
    let delete = vm.nargs() == 2 && {
        if !vm.arg(1).is_bool() {
            return Err(vm.type_error(1, "boolean"));
        }
        vm.arg(1).truthy()
    };
    let path = crate::request::body::bytes_to_path(&name);
    let failed = |what: &str| format!("{what}() \"{}\" failed", String::from_utf8_lossy(&name));
    let len = match (std::fs::metadata(&path), std::fs::File::open(&path)) {
        (Ok(m), Ok(_)) => m.len(),
        (Err(_), _) => return Err(vm.throw_str(failed("stat").as_bytes())),
        (_, Err(_)) => return Err(vm.throw_str(failed("open").as_bytes())),
    };
    replace_body(&req, Body::File(BodyFile { path, len, delete }), len);
    Ok(Outcome::none())
}

/// `ngx.req.init_body(buffer_size?)`: begins a new body; what is more than the buffer goes to a file.
fn init_body(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 0..=1, "expecting 0 or 1 argument but seen #")?;
    let req = request(vm)?;
    replaceable(vm, &req)?;
    let keep = match vm.nargs() {
        0 => usize::try_from(req.location().client_body_buffer_size).unwrap_or(usize::MAX),
        _ => match vm.check_int(0)? {
            n if n < 0 => return Err(vm.throw_str(format!("bad size argument: {n}").as_bytes())),
            n => n as usize,
        },
    };
    *req.body.borrow_mut() = Body::Writing(BodyWriter::new(keep));
    Ok(Outcome::none())
}

/// `ngx.req.append_body(text)`: a piece of the body that `init_body` began.
///
/// Raises `request_body not initialized`, `fail to write file`.
fn append_body(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=1, "expecting 1 arguments but seen #")?;
    let piece = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let req = request(vm)?;
    let written = match &mut *req.body.borrow_mut() {
        Body::Writing(w) => Some(w.append(&req, &piece)),
        _ => None,
    };
    match written {
        Some(Ok(())) => Ok(Outcome::none()),
        Some(Err(_)) => Err(vm.throw_str(b"fail to write file")),
        None => Err(vm.throw_str(b"request_body not initialized")),
    }
}

/// `ngx.req.finish_body()`: the pieces are the request's body now.
fn finish_body(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 0..=0, "expecting 0 argument but seen #")?;
    let req = request(vm)?;
    let body = std::mem::take(&mut *req.body.borrow_mut());
    let Body::Writing(w) = body else {
        *req.body.borrow_mut() = body;
        return Err(vm.throw_str(b"request_body not initialized"));
    };
    match w.finish(&req) {
        Ok((body, len)) => {
            replace_body(&req, body, len);
            Ok(Outcome::none())
        }
        Err(_) => Err(vm.throw_str(b"fail to write file")),
    }
}

/// `ngx.req.is_internal()`.
fn is_internal(vm: &mut Vm, _: Entry) -> NativeResult {
    yes(request(vm)?.internal.get())
}
