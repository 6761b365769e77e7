//! Times from the cached clock.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Str, Value, Vm};

use super::{ApiFn, request};
use crate::http1::clock;
use crate::lua::args::string;
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.time", Phases::ANY, time),
    ApiFn::plain("ngx.now", Phases::ANY, now),
    ApiFn::plain("ngx.update_time", Phases::ANY, update_time),
    ApiFn::plain("ngx.today", Phases::ANY, today),
    ApiFn::plain("ngx.localtime", Phases::ANY, localtime),
    ApiFn::plain("ngx.utctime", Phases::ANY, utctime),
    ApiFn::plain("ngx.http_time", Phases::ANY, http_time),
    ApiFn::plain("ngx.cookie_time", Phases::ANY, cookie_time),
    ApiFn::plain("ngx.parse_http_time", Phases::ANY, parse_http_time),
    ApiFn::plain("ngx.req.start_time", Phases::REQUEST, start_time),
];

fn seconds(ms: u64) -> Value {
    Value::num(ms as f64 / 1000.0)
}

fn now_s() -> i64 {
    (clock::now_ms() / 1000) as i64
}

/// `ngx.time()`: whole seconds.
fn time(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(now_s() as f64)))
}

/// `ngx.now()`: seconds with milliseconds.
fn now(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(seconds(clock::now_ms())))
}

/// `ngx.update_time()`: reads the system's clock.
fn update_time(_: &mut Vm, _: Entry) -> NativeResult {
    clock::update();
    Ok(Outcome::none())
}

/// The functions of the module `resty.core.time`.
pub const MODULE: &[ApiFn] = &[
    ApiFn::plain("resty.core.time.monotonic_msec", Phases::ANY, monotonic_msec),
    ApiFn::plain("resty.core.time.monotonic_time", Phases::ANY, monotonic_time),
];

/// `monotonic_msec()`: milliseconds of a clock that never jumps.
fn monotonic_msec(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(clock::monotonic_ms() as f64)))
}

/// `monotonic_time()`: its seconds.
fn monotonic_time(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(clock::monotonic_ms() as f64 / 1000.0)))
}

/// `ngx.today()`: `2010-11-18`.
fn today(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = clock::plain_time(now_s(), clock::zone_offset());
    Ok(Outcome::one(string(vm, &t[..10])))
}

/// `ngx.localtime()`: `2010-11-18 11:27:35`.
fn localtime(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = clock::plain_time(now_s(), clock::zone_offset());
    Ok(Outcome::one(string(vm, t)))
}

/// `ngx.utctime()`.
fn utctime(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = clock::plain_time(now_s(), 0);
    Ok(Outcome::one(string(vm, t)))
}

/// The seconds in the first argument; there is no time before 1970.
fn point(vm: &mut Vm) -> Result<i64, Raised> {
    match vm.arg(0).as_num() {
        Some(n) => Ok(n.max(0.0) as i64),
        None => Err(vm.throw_str(b"number argument only")),
    }
}

/// `ngx.http_time(sec)`. Raises `number argument only`.
fn http_time(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = clock::http_time(point(vm)?);
    Ok(Outcome::one(string(vm, t)))
}

/// `ngx.cookie_time(sec)`.
fn cookie_time(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = clock::cookie_time(point(vm)?);
    Ok(Outcome::one(string(vm, t)))
}

/// `ngx.parse_http_time(text)`: seconds, or nil.
fn parse_http_time(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(s) = vm.arg(0).as_obj::<Str>() else { return Err(vm.throw_str(b"string argument only")) };
    let t = clock::parse_http_time(s.bytes(&vm.heap));
    Ok(Outcome::one(t.map_or(Value::NIL, |t| Value::num(t as f64))))
}

/// `ngx.req.start_time()`.
fn start_time(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(seconds(request(vm)?.start_ms)))
}
