//! Constants of `ngx`, `ngx.get_phase`, `ngx.config`.

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Table, Value, Vm};

use super::{ApiFn, subtable};
use crate::conf::model::Level;
use crate::lua::args::{null, set_field, string};
use crate::lua::worker::here;
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.get_phase", Phases::ANY, get_phase),
    ApiFn::plain("ngx.config.prefix", Phases::ANY, prefix),
    ApiFn::plain("ngx.config.nginx_configure", Phases::ANY, configure),
];

const NUMBERS: &[(&str, i32)] = &[
    ("OK", 0),
    ("ERROR", -1),
    ("AGAIN", -2),
    ("DONE", -4),
    ("DECLINED", -5),
    ("HTTP_GET", 2),
    ("HTTP_HEAD", 4),
    ("HTTP_POST", 8),
    ("HTTP_PUT", 16),
    ("HTTP_DELETE", 32),
    ("HTTP_MKCOL", 64),
    ("HTTP_COPY", 128),
    ("HTTP_MOVE", 256),
    ("HTTP_OPTIONS", 512),
    ("HTTP_PROPFIND", 1024),
    ("HTTP_PROPPATCH", 2048),
    ("HTTP_LOCK", 4096),
    ("HTTP_UNLOCK", 8192),
    ("HTTP_PATCH", 16384),
    ("HTTP_TRACE", 32768),
    ("HTTP_CONTINUE", 100),
    ("HTTP_SWITCHING_PROTOCOLS", 101),
    ("HTTP_OK", 200),
    ("HTTP_CREATED", 201),
    ("HTTP_ACCEPTED", 202),
    ("HTTP_NO_CONTENT", 204),
    ("HTTP_PARTIAL_CONTENT", 206),
    ("HTTP_SPECIAL_RESPONSE", 300),
    ("HTTP_MOVED_PERMANENTLY", 301),
    ("HTTP_MOVED_TEMPORARILY", 302),
    ("HTTP_SEE_OTHER", 303),
    ("HTTP_NOT_MODIFIED", 304),
    ("HTTP_TEMPORARY_REDIRECT", 307),
    ("HTTP_PERMANENT_REDIRECT", 308),
    ("HTTP_BAD_REQUEST", 400),
    ("HTTP_UNAUTHORIZED", 401),
    ("HTTP_PAYMENT_REQUIRED", 402),
    ("HTTP_FORBIDDEN", 403),
    ("HTTP_NOT_FOUND", 404),
    ("HTTP_NOT_ALLOWED", 405),
    ("HTTP_NOT_ACCEPTABLE", 406),
    ("HTTP_REQUEST_TIMEOUT", 408),
    ("HTTP_CONFLICT", 409),
    ("HTTP_GONE", 410),
    ("HTTP_UPGRADE_REQUIRED", 426),
    ("HTTP_TOO_MANY_REQUESTS", 429),
    ("HTTP_CLOSE", 444),
    ("HTTP_ILLEGAL", 451),
    ("HTTP_INTERNAL_SERVER_ERROR", 500),
    ("HTTP_METHOD_NOT_IMPLEMENTED", 501),
    ("HTTP_NOT_IMPLEMENTED", 501),
    ("HTTP_BAD_GATEWAY", 502),
    ("HTTP_SERVICE_UNAVAILABLE", 503),
    ("HTTP_GATEWAY_TIMEOUT", 504),
    ("HTTP_VERSION_NOT_SUPPORTED", 505),
    ("HTTP_INSUFFICIENT_STORAGE", 507),
    ("STDERR", 0),
    ("EMERG", 1),
    ("ALERT", 2),
    ("CRIT", 3),
    ("ERR", 4),
    ("WARN", 5),
    ("NOTICE", 6),
    ("INFO", 7),
    ("DEBUG", 8),
];

/// Methods by their bit.
pub const METHODS: &[(i32, &str)] = &[
    (2, "GET"),
    (4, "HEAD"),
    (8, "POST"),
    (16, "PUT"),
    (32, "DELETE"),
    (64, "MKCOL"),
    (128, "COPY"),
    (256, "MOVE"),
    (512, "OPTIONS"),
    (1024, "PROPFIND"),
    (2048, "PROPPATCH"),
    (4096, "LOCK"),
    (8192, "UNLOCK"),
    (16384, "PATCH"),
    (32768, "TRACE"),
];

const _: () = assert!(Level::Debug as u8 == 8);

/// Fills in the constants.
pub fn install(vm: &mut Vm, ngx: Gc<Table>) {
    for (name, n) in NUMBERS {
        set_field(vm, ngx, name.as_bytes(), Value::int(*n));
    }
    set_field(vm, ngx, b"null", null());
    install_config(vm, ngx);
}

/// Fills in `ngx.config`.
pub fn install_config(vm: &mut Vm, ngx: Gc<Table>) {
    let config = subtable(vm, ngx, "config");
    let subsystem = string(vm, "http");
    set_field(vm, config, b"subsystem", subsystem);
    set_field(vm, config, b"debug", Value::FALSE);
    set_field(vm, config, b"nginx_version", Value::int(1_031_003));
    set_field(vm, config, b"ngx_lua_version", Value::int(10_032));
}

/// `ngx.get_phase()`: the name of the running phase.
fn get_phase(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = here().phase().name();
    Ok(Outcome::one(string(vm, name)))
}

/// `ngx.config.prefix()`: the prefix with a slash at its end.
fn prefix(vm: &mut Vm, _: Entry) -> NativeResult {
    let p = here().config.prefix.to_string_lossy().into_owned();
    Ok(Outcome::one(string(vm, p)))
}

/// `ngx.config.nginx_configure()`: what `-V` shows.
fn configure(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(string(vm, crate::conf::CONFIGURE_ARGUMENTS)))
}
