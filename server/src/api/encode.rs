//! Encodings: URIs, query arguments, base64, SQL strings.

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Raised, Str, Table, Value, Vm};

use super::ApiFn;
use crate::lua::args::{
    expect_args, fail, pairs, results, set_field, set_index, string, string_or_nil, text_of,
};
use crate::lua::worker::here;
use crate::phase::Phases;
use crate::request::args::{Arg, split};
use crate::request::escape::{Place, escape, unescape};

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.escape_uri", Phases::ANY, escape_uri),
    ApiFn::plain("ngx.unescape_uri", Phases::ANY, unescape_uri),
    ApiFn::plain("ngx.encode_args", Phases::ANY, encode_args),
    ApiFn::plain("ngx.decode_args", Phases::ANY, decode_args),
    ApiFn::plain("ngx.encode_base64", Phases::ANY, encode_base64),
    ApiFn::plain("ngx.decode_base64", Phases::ANY, decode_base64),
    ApiFn::plain("ngx.decode_base64mime", Phases::ANY, decode_base64mime),
    ApiFn::plain("ngx.quote_sql_str", Phases::ANY, quote_sql_str),
];

/// A text argument: strings as they are, nothing for nil and false, everything else as `tostring` writes it.
fn loose_text(vm: &Vm, i: usize) -> Vec<u8> {
    let v = vm.arg(i);
    if v.truthy() { vm.raw_text(v) } else { Vec::new() }
}

/// Raises a text with the place of the caller's caller.
fn throw_outer(vm: &mut Vm, text: &str) -> Raised {
    let mut line = vm.position(2);
    line.extend_from_slice(text.as_bytes());
    vm.throw_plain(&line)
}

/// What `ngx.escape_uri` escapes for, by its second argument.
const ESCAPE_TYPES: [Place; 7] = [
    Place::Uri,
    Place::ScriptArgs,
    Place::Component,
    Place::Html,
    Place::Refresh,
    Place::Memcached,
    Place::Memcached,
];

/// `ngx.escape_uri(text, type?)`: type 2 escapes a component (default), 0 a whole URI, 1 a query, 3 HTML,
/// 4 a `Refresh` header, 5 a memcached key, 6 a mail authentication header.
///
/// Raises `"type" is not a number`, `"type" N out of range`.
fn escape_uri(vm: &mut Vm, _: Entry) -> NativeResult {
    let text = loose_text(vm, 0);
    let v = vm.arg(1);
    let place = match v.as_num() {
        None if v.is_nil() => Place::Component,
        None => return Err(throw_outer(vm, "\"type\" is not a number")),
        Some(n) if n >= 0.0 && n < ESCAPE_TYPES.len() as f64 => ESCAPE_TYPES[n as usize],
        Some(_) => {
            let shown = String::from_utf8_lossy(&vm.raw_text(v)).into_owned();
            return Err(throw_outer(vm, &format!("\"type\" {shown} out of range")));
        }
    };
    let mut out = Vec::new();
    escape(&text, place, &mut out);
    Ok(Outcome::one(string(vm, out)))
}

/// `ngx.unescape_uri(text)`.
fn unescape_uri(vm: &mut Vm, _: Entry) -> NativeResult {
    let text = loose_text(vm, 0);
    let mut out = Vec::new();
    unescape(&text, true, &mut out);
    Ok(Outcome::one(string(vm, out)))
}

/// `ngx.encode_args(table)`.
fn encode_args(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=1, "expecting 1 argument but seen #")?;
    let t = vm.check_tab(0)?;
    let out = encode_table(vm, t)?;
    Ok(Outcome::one(string(vm, out)))
}

/// The query that a table stands for.
pub fn encode_table(vm: &mut Vm, t: Gc<Table>) -> Result<Vec<u8>, Raised> {
    let mut out = Vec::new();
    for (k, v) in pairs(vm, t) {
        let Some(name) = k.as_obj::<Str>().map(|s| s.bytes(&vm.heap).to_vec()) else {
            return Err(vm.throw_str(b"attempt to use a non-string key in the \"args\" option table"));
        };
        let values = match v.as_obj::<Table>() {
            Some(list) => pairs(vm, list).into_iter().map(|(_, v)| v).collect(),
            None => vec![v],
        };
        for v in values {
            let value = match v.type_name() {
                "string" | "number" => text_of(vm, v),
                "boolean" if v.truthy() => None,
                "boolean" => continue,
                other => {
                    let text = format!("attempt to use {other} as query arg value");
                    return Err(vm.throw_str(text.as_bytes()));
                }
            };
            if !out.is_empty() {
                out.push(b'&');
            }
            escape(&name, Place::Component, &mut out);
            if let Some(value) = value {
                out.push(b'=');
                escape(&value, Place::Component, &mut out);
            }
        }
    }
    Ok(out)
}

/// `ngx.decode_args(text, max?)`: a table, and `truncated` when there were more.
fn decode_args(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=2, "expecting 1 or 2 arguments but seen #")?;
    let text = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let max = vm.opt_int(1, 100)?;
    args_result(vm, &text, max, None)
}

/// The native's results for a query.
pub fn args_result(vm: &mut Vm, query: &[u8], max: i32, into: Option<Gc<Table>>) -> NativeResult {
    let (args, more) = split(query, usize::try_from(max).unwrap_or(0));
    let t = match into {
        Some(t) => {
            t.clear(&mut vm.heap);
            t
        }
        None => vm.heap.new_table(0, 3),
    };
    fill_args(vm, t, &args);
    if more {
        here().debug(|| format!("lua hit query args limit {max}"));
        let err = string(vm, "truncated");
        return results(vm, &[Value::obj(t), err]);
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// Adds arguments to a table: repeated ones become arrays, those without value `true`.
fn fill_args(vm: &mut Vm, t: Gc<Table>, args: &[Arg]) {
    for a in args {
        let v = match &a.value {
            Some(v) => string(vm, v),
            None => Value::TRUE,
        };
        add_multi(vm, t, &a.name, v);
    }
}

/// Sets a field; a second value of the same name makes it an array.
pub fn add_multi(vm: &mut Vm, t: Gc<Table>, name: &[u8], v: Value) {
    let old = t.get_bytes(&vm.heap, name);
    if old.is_nil() {
        set_field(vm, t, name, v);
    } else if let Some(list) = old.as_obj::<Table>() {
        let n = list.len(&vm.heap) as usize;
        set_index(vm, list, n + 1, v);
    } else {
        let list = vm.heap.new_table(4, 0);
        set_index(vm, list, 1, old);
        set_index(vm, list, 2, v);
        set_field(vm, t, name, Value::obj(list));
    }
}

/// `ngx.encode_base64(text, no_padding?)`.
fn encode_base64(vm: &mut Vm, _: Entry) -> NativeResult {
    let text = loose_text(vm, 0);
    let flag = vm.arg(1);
    if !flag.is_nil() && !flag.is_bool() {
        let text = format!("bad no_padding: boolean expected, got {}", flag.type_name());
        return Err(vm.throw_str(text.as_bytes()));
    }
    let out = if flag.truthy() {
        base64_simd::STANDARD_NO_PAD.encode_to_string(text)
    } else {
        base64_simd::STANDARD.encode_to_string(text)
    };
    Ok(Outcome::one(string(vm, out)))
}

/// Decodes up to the first `=`; letters' left-over bits are dropped. `None` when it is no base64.
fn decode64(text: &[u8]) -> Option<Vec<u8>> {
    let bare = &text[..memchr::memchr(b'=', text).unwrap_or(text.len())];
    // The decoder skips white space, which is an error here.
    if bare.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    base64_simd::forgiving_decode_to_vec(bare).ok()
}

fn text_argument(vm: &mut Vm) -> Result<Gc<Str>, Raised> {
    vm.arg(0).as_obj::<Str>().ok_or_else(|| vm.throw_str(b"string argument only"))
}

/// `ngx.decode_base64(text)`: nil when it is none.
fn decode_base64(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = text_argument(vm)?;
    let out = decode64(s.bytes(&vm.heap));
    Ok(Outcome::one(string_or_nil(vm, out)))
}

/// `ngx.decode_base64mime(text)`: the same, over whatever is no letter of the alphabet.
fn decode_base64mime(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = text_argument(vm)?;
    let text = s.bytes(&vm.heap);
    let text = &text[..memchr::memchr(b'=', text).unwrap_or(text.len())];
    let letters: Vec<u8> =
        text.iter().copied().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')).collect();
    let out = decode64(&letters);
    Ok(Outcome::one(string_or_nil(vm, out)))
}

/// The functions of the module `ngx.base64`.
pub const BASE64: &[ApiFn] = &[
    ApiFn::plain("ngx.base64.encode_base64url", Phases::ANY, encode_base64url),
    ApiFn::plain("ngx.base64.decode_base64url", Phases::ANY, decode_base64url),
];

/// The functions of the module `resty.core.utils`.
pub const UTILS: &[ApiFn] =
    &[ApiFn::plain("resty.core.utils.str_replace_char", Phases::ANY, str_replace_char)];

/// `str_replace_char(text, from, to)`: the text with one character replaced everywhere.
fn str_replace_char(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut text = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let from = vm.check_str(1)?.bytes(&vm.heap).first().copied();
    let to = vm.check_str(2)?.bytes(&vm.heap).first().copied();
    if let (Some(from), Some(to)) = (from, to) {
        text.iter_mut().filter(|b| **b == from).for_each(|b| *b = to);
    }
    Ok(Outcome::one(string(vm, text)))
}

/// `encode_base64url(text)`: or nil and `must provide a string`.
fn encode_base64url(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(s) = vm.arg(0).as_obj::<Str>() else { return fail(vm, "must provide a string") };
    let out = base64_simd::URL_SAFE_NO_PAD.encode_to_string(s.bytes(&vm.heap));
    Ok(Outcome::one(string(vm, out)))
}

/// `decode_base64url(text)`: or nil and `must provide a string`, `invalid input`.
fn decode_base64url(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(s) = vm.arg(0).as_obj::<Str>() else { return fail(vm, "must provide a string") };
    let text = s.bytes(&vm.heap);
    let plain: Vec<u8> = text
        .iter()
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            b'+' | b'/' => b' ',
            b => *b,
        })
        .collect();
    match decode64(&plain) {
        Some(out) => Ok(Outcome::one(string(vm, out))),
        None => fail(vm, "invalid input"),
    }
}

/// `ngx.quote_sql_str(text)`.
fn quote_sql_str(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1..=1, "expecting one argument")?;
    let text = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'\'');
    for b in text {
        let escaped = match b {
            0 => b'0',
            8 => b'b',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            26 => b'Z',
            b'\\' | b'\'' | b'"' => b,
            _ => {
                out.push(b);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
    out.push(b'\'');
    Ok(Outcome::one(string(vm, out)))
}
