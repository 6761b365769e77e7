//! Encodings: URIs, query arguments, base64, SQL strings.

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Raised, Str, Table, Value, Vm};

use super::ApiFn;
use crate::lua::args::{array_values, expect_args, pairs, results, set_field, set_index, string, text_of};
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
    ApiFn::plain("ngx.quote_sql_str", Phases::ANY, quote_sql_str),
];

/// A text argument: strings as they are, everything else as `tostring` writes it.
fn loose_text(vm: &Vm, i: usize) -> Vec<u8> {
    vm.raw_text(vm.arg(i))
}

/// `ngx.escape_uri(text, type?)`: type 2 escapes a component (default), 0 a whole URI.
fn escape_uri(vm: &mut Vm, _: Entry) -> NativeResult {
    let text = loose_text(vm, 0);
    let place = match vm.opt_int(1, 2)? {
        0 => Place::Uri,
        2 => Place::Component,
        n => {
            let text = format!("\"type\" {n} out of range");
            return Err(vm.throw_str(text.as_bytes()));
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
    expect_args(vm, 1)?;
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
            Some(list) => array_values(vm, list),
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
    let text = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let max = vm.opt_int(1, 100)?;
    args_result(vm, &text, max)
}

/// The native's results for a query.
pub fn args_result(vm: &mut Vm, query: &[u8], max: i32) -> NativeResult {
    let (args, more) = split(query, usize::try_from(max).unwrap_or(0));
    let t = args_table(vm, &args);
    if more {
        let err = string(vm, "truncated");
        return results(vm, &[Value::obj(t), err]);
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// A table of arguments: repeated ones become arrays, those without value `true`.
pub fn args_table(vm: &mut Vm, args: &[Arg]) -> Gc<Table> {
    let t = vm.heap.new_table(0, 3);
    for a in args {
        let v = match &a.value {
            Some(v) => string(vm, v),
            None => Value::TRUE,
        };
        add_multi(vm, t, &a.name, v);
    }
    t
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

/// `ngx.decode_base64(text)`: nil when it is none.
fn decode_base64(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(s) = vm.arg(0).as_obj::<Str>() else { return Err(vm.throw_str(b"string argument only")) };
    let text = s.bytes(&vm.heap);
    let bare = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let out =
        base64_simd::forgiving_decode_to_vec(bare).ok().filter(|_| !bare.iter().any(u8::is_ascii_whitespace));
    Ok(Outcome::one(match out {
        Some(b) => string(vm, b),
        None => Value::NIL,
    }))
}

/// `ngx.quote_sql_str(text)`.
fn quote_sql_str(vm: &mut Vm, _: Entry) -> NativeResult {
    expect_args(vm, 1)?;
    let text = loose_text(vm, 0);
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
