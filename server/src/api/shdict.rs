//! `ngx.shared`: the methods of shared dictionaries.

use std::rc::Rc;
use std::sync::Arc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Raised, Table, Userdata, Value, Vm};

use super::{ApiFn, methods_metatable};
use crate::http1::clock;
use crate::lua::args::{fail, results, set_field, set_index, string, text_of};
use crate::lua::worker::LuaWorker;
use crate::phase::Phases;
use crate::shared::shdict::{DictError, KEY_BYTES_MAX, Owned, ShDict, StoreMode, Stored, Value as DictValue};

/// The methods.
pub const METHODS: &[ApiFn] = &[
    ApiFn::plain("ngx.shared.DICT.get", Phases::ANY, get),
    ApiFn::plain("ngx.shared.DICT.get_stale", Phases::ANY, get_stale),
    ApiFn::plain("ngx.shared.DICT.set", Phases::ANY, set),
    ApiFn::plain("ngx.shared.DICT.safe_set", Phases::ANY, safe_set),
    ApiFn::plain("ngx.shared.DICT.add", Phases::ANY, add),
    ApiFn::plain("ngx.shared.DICT.safe_add", Phases::ANY, safe_add),
    ApiFn::plain("ngx.shared.DICT.replace", Phases::ANY, replace),
    ApiFn::plain("ngx.shared.DICT.delete", Phases::ANY, delete),
    ApiFn::plain("ngx.shared.DICT.incr", Phases::ANY, incr),
    ApiFn::plain("ngx.shared.DICT.lpush", Phases::ANY, lpush),
    ApiFn::plain("ngx.shared.DICT.rpush", Phases::ANY, rpush),
    ApiFn::plain("ngx.shared.DICT.lpop", Phases::ANY, lpop),
    ApiFn::plain("ngx.shared.DICT.rpop", Phases::ANY, rpop),
    ApiFn::plain("ngx.shared.DICT.llen", Phases::ANY, llen),
    ApiFn::plain("ngx.shared.DICT.ttl", Phases::ANY, ttl),
    ApiFn::plain("ngx.shared.DICT.expire", Phases::ANY, expire),
    ApiFn::plain("ngx.shared.DICT.flush_all", Phases::ANY, flush_all),
    ApiFn::plain("ngx.shared.DICT.flush_expired", Phases::ANY, flush_expired),
    ApiFn::plain("ngx.shared.DICT.get_keys", Phases::ANY, get_keys),
    ApiFn::plain("ngx.shared.DICT.capacity", Phases::ANY, capacity),
    ApiFn::plain("ngx.shared.DICT.free_space", Phases::ANY, free_space),
];

/// Makes `ngx.shared`.
pub fn install(w: &Rc<LuaWorker>, vm: &mut Vm, ngx: Gc<Table>) {
    let meta = methods_metatable(w, vm, METHODS);
    let shared = vm.heap.new_table(0, 2);
    for (name, dict) in &w.dicts {
        let t = vm.heap.new_table(2, 0);
        let cell = vm.heap.new_udata(dict.clone(), None);
        set_index(vm, t, 1, cell.value());
        vm.heap.set_metatable(t, Some(meta));
        set_field(vm, shared, name.as_bytes(), Value::obj(t));
    }
    set_field(vm, ngx, b"shared", Value::obj(shared));
}

fn dict(vm: &mut Vm) -> Result<Arc<ShDict>, Raised> {
    let cell = vm.arg(0).as_obj::<Table>().map(|t| t.geti(&vm.heap, 1));
    let found =
        cell.and_then(|c| c.as_obj::<Userdata>()).and_then(|u| u.downcast::<Arc<ShDict>>(&vm.heap).cloned());
    found.ok_or_else(|| vm.throw_str(b"bad \"zone\" argument"))
}

/// The key, or why it is none.
fn key(vm: &Vm) -> Result<Vec<u8>, &'static str> {
    let v = vm.arg(1);
    if v.is_nil() {
        return Err("nil key");
    }
    let k = vm.raw_text(v);
    match k.len() {
        0 => Err("empty key"),
        n if n > KEY_BYTES_MAX => Err("key too long"),
        _ => Ok(k),
    }
}

macro_rules! key_or_return {
    ($vm:expr) => {
        match key($vm) {
            Ok(k) => k,
            Err(text) => return fail($vm, text),
        }
    };
}

fn now() -> u64 {
    clock::now_ms()
}

fn seconds_arg(vm: &mut Vm, i: usize, name: &str) -> Result<u64, Raised> {
    let s = vm.opt_num(i, 0.0)?;
    if !(s >= 0.0) {
        return Err(vm.throw_str(format!("bad \"{name}\" argument").as_bytes()));
    }
    Ok((s * 1000.0) as u64)
}

fn value_of(vm: &mut Vm, v: &DictValue<'_>) -> Value {
    match v {
        DictValue::Bool(b) => Value::bool(*b),
        DictValue::Number(n) => Value::num(*n),
        DictValue::String(s) => string(vm, s),
    }
}

fn look_up(vm: &mut Vm, stale: bool) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    let got = d.get(&k, now(), stale, |f| f.map(|f| (value_of(vm, &f.value), f.flags, f.stale)));
    match got {
        Err(e) => fail(vm, e.text()),
        Ok(None) => Ok(Outcome::one(Value::NIL)),
        Ok(Some((v, flags, gone))) => {
            let flags = if flags == 0 { Value::NIL } else { Value::num(f64::from(flags)) };
            if stale {
                results(vm, &[v, flags, Value::bool(gone)])
            } else if flags.is_nil() {
                Ok(Outcome::one(v))
            } else {
                results(vm, &[v, flags])
            }
        }
    }
}

/// `dict:get(key)`: the value and its flags.
fn get(vm: &mut Vm, _: Entry) -> NativeResult {
    look_up(vm, false)
}

/// `dict:get_stale(key)`: the value even if expired, flags, and whether it had expired.
fn get_stale(vm: &mut Vm, _: Entry) -> NativeResult {
    look_up(vm, true)
}

fn store(vm: &mut Vm, mode: StoreMode, safe: bool) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    let ttl = seconds_arg(vm, 3, "exptime")?;
    let flags = vm.opt_num(4, 0.0)? as u32;
    let v = vm.arg(2);
    let bytes;
    let value = match v.type_name() {
        "string" => {
            bytes = text_of(vm, v).unwrap_or_default();
            DictValue::String(&bytes)
        }
        "number" => DictValue::Number(v.as_num().unwrap_or(0.0)),
        "boolean" => DictValue::Bool(v.truthy()),
        "nil" if mode == StoreMode::Set => {
            d.delete(&k, now());
            return results(vm, &[Value::TRUE, Value::NIL, Value::FALSE]);
        }
        "nil" => return fail(vm, "attempt to add or replace nil values"),
        _ => return fail(vm, "bad value type"),
    };
    match d.store(mode, safe, &k, value, ttl, flags, now()) {
        Ok(Stored { forcible }) => results(vm, &[Value::TRUE, Value::NIL, Value::bool(forcible)]),
        Err((e, Stored { forcible })) => {
            let t = string(vm, e.text());
            results(vm, &[Value::FALSE, t, Value::bool(forcible)])
        }
    }
}

/// `dict:set(key, value, exptime?, flags?)`: success, error, whether others had to go.
fn set(vm: &mut Vm, _: Entry) -> NativeResult {
    store(vm, StoreMode::Set, false)
}

/// `dict:safe_set(...)`: never evicts.
fn safe_set(vm: &mut Vm, _: Entry) -> NativeResult {
    store(vm, StoreMode::Set, true)
}

/// `dict:add(...)`: only when there is none; else `exists`.
fn add(vm: &mut Vm, _: Entry) -> NativeResult {
    store(vm, StoreMode::Add, false)
}

/// `dict:safe_add(...)`.
fn safe_add(vm: &mut Vm, _: Entry) -> NativeResult {
    store(vm, StoreMode::Add, true)
}

/// `dict:replace(...)`: only when there is one; else `not found`.
fn replace(vm: &mut Vm, _: Entry) -> NativeResult {
    store(vm, StoreMode::Replace, false)
}

/// `dict:delete(key)`.
fn delete(vm: &mut Vm, _: Entry) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    d.delete(&k, now());
    Ok(Outcome::one(Value::TRUE))
}

/// `dict:incr(key, value, init?, init_ttl?)`: the new value, error, and with `init` whether others had to go.
fn incr(vm: &mut Vm, _: Entry) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    let Some(by) = vm.to_number(vm.arg(2)) else {
        let text = format!("cannot convert '{}' to 'double'", vm.arg(2).type_name());
        return Err(vm.arg_error(2, text.as_bytes()));
    };
    let has_init = !vm.arg(3).is_nil();
    if !has_init && !vm.arg(4).is_nil() {
        return Err(vm.throw_str(b"must provide \"init\" when providing \"init_ttl\""));
    }
    for (i, name) in [(3, "init"), (4, "init_ttl")] {
        let v = vm.arg(i);
        if !v.is_nil() && vm.to_number(v).is_none() {
            let text = format!("bad {name} arg: number expected, got {}", v.type_name());
            return Err(vm.throw_str(text.as_bytes()));
        }
    }
    let init = if has_init { Some((vm.check_num(3)?, seconds_arg(vm, 4, "init_ttl")?)) } else { None };
    match d.incr(&k, by, init, now()) {
        Ok((n, s)) if has_init => results(vm, &[Value::num(n), Value::NIL, Value::bool(s.forcible)]),
        Ok((n, _)) => results(vm, &[Value::num(n), Value::NIL]),
        Err((e, s)) => {
            let t = string(vm, e.text());
            if has_init {
                results(vm, &[Value::NIL, t, Value::bool(s.forcible)])
            } else {
                results(vm, &[Value::NIL, t])
            }
        }
    }
}

fn push(vm: &mut Vm, front: bool) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    let v = vm.arg(2);
    let bytes;
    let value = match v.type_name() {
        "string" => {
            bytes = text_of(vm, v).unwrap_or_default();
            DictValue::String(&bytes)
        }
        "number" => DictValue::Number(v.as_num().unwrap_or(0.0)),
        _ => return fail(vm, "bad value type"),
    };
    match d.push(&k, front, value, now()) {
        Ok(n) => Ok(Outcome::one(Value::num(f64::from(n)))),
        Err(e) => fail(vm, e.text()),
    }
}

/// `dict:lpush(key, value)`: the list's length.
fn lpush(vm: &mut Vm, _: Entry) -> NativeResult {
    push(vm, true)
}

/// `dict:rpush(key, value)`.
fn rpush(vm: &mut Vm, _: Entry) -> NativeResult {
    push(vm, false)
}

fn pop(vm: &mut Vm, front: bool) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    match d.pop(&k, front, now()) {
        Ok(None) => Ok(Outcome::one(Value::NIL)),
        Ok(Some(Owned::Number(n))) => Ok(Outcome::one(Value::num(n))),
        Ok(Some(Owned::String(s))) => Ok(Outcome::one(string(vm, s))),
        Err(e) => fail(vm, e.text()),
    }
}

/// `dict:lpop(key)`.
fn lpop(vm: &mut Vm, _: Entry) -> NativeResult {
    pop(vm, true)
}

/// `dict:rpop(key)`.
fn rpop(vm: &mut Vm, _: Entry) -> NativeResult {
    pop(vm, false)
}

/// `dict:llen(key)`.
fn llen(vm: &mut Vm, _: Entry) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    match d.llen(&k, now()) {
        Ok(n) => Ok(Outcome::one(Value::num(f64::from(n)))),
        Err(e) => fail(vm, e.text()),
    }
}

/// `dict:ttl(key)`: seconds; negative for an expired key that is still there.
fn ttl(vm: &mut Vm, _: Entry) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    match d.ttl_ms(&k, now()) {
        Ok(ms) => Ok(Outcome::one(Value::num(ms as f64 / 1000.0))),
        Err(e) => fail(vm, e.text()),
    }
}

/// `dict:expire(key, exptime)`.
fn expire(vm: &mut Vm, _: Entry) -> NativeResult {
    let d = dict(vm)?;
    let k = key_or_return!(vm);
    if vm.arg(2).is_nil() {
        return Err(vm.throw_str(b"bad \"exptime\" argument"));
    }
    let ttl = seconds_arg(vm, 2, "exptime")?;
    match d.expire(&k, ttl, now()) {
        Ok(()) => Ok(Outcome::one(Value::TRUE)),
        Err(e @ DictError::NotFound) => fail(vm, e.text()),
        Err(e) => fail(vm, e.text()),
    }
}

/// `dict:flush_all()`.
fn flush_all(vm: &mut Vm, _: Entry) -> NativeResult {
    dict(vm)?.flush_all();
    Ok(Outcome::none())
}

/// `dict:flush_expired(max?)`: how many were freed.
fn flush_expired(vm: &mut Vm, _: Entry) -> NativeResult {
    let d = dict(vm)?;
    let max = vm.opt_int(1, 0)?;
    let n = d.flush_expired(usize::try_from(max).unwrap_or(0), now());
    Ok(Outcome::one(Value::num(n as f64)))
}

/// `dict:get_keys(max?)`: an array, at most 1024 by default, 0 for all.
fn get_keys(vm: &mut Vm, _: Entry) -> NativeResult {
    let d = dict(vm)?;
    let max = vm.opt_int(1, 1024)?;
    let keys = d.keys(usize::try_from(max).unwrap_or(0), now());
    let t = vm.heap.new_table(keys.len() as u32 + 1, 0);
    for (i, k) in keys.iter().enumerate() {
        let v = string(vm, k);
        set_index(vm, t, i + 1, v);
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// `dict:capacity()`: bytes.
fn capacity(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = dict(vm)?.capacity();
    Ok(Outcome::one(Value::num(n as f64)))
}

/// `dict:free_space()`: bytes in wholly free pages.
fn free_space(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = dict(vm)?.free_space();
    Ok(Outcome::one(Value::num(n as f64)))
}
