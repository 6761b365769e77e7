//! What scripts `require`: `resty.core.*` (loaded from the start) and the `ngx.*` modules (made on demand).
//!
//! A row names a module, its own functions, and those that also stand elsewhere below the globals.

use std::rc::Rc;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, NativeRow, Outcome, Table, Value, Vm};

use super::{ApiFn, encode, errlog, fill_with, pipe, process, re, req, resp, semaphore, subtable};
use crate::lua::args::{set_field, string};
use crate::lua::worker::{LuaWorker, here};

/// A module.
struct Module {
    name: &'static str,
    /// Its own functions; the part behind the last dot is the field.
    fns: &'static [ApiFn],
    /// Fields that are what stands at a dotted path below the globals.
    shares: &'static [(&'static str, &'static str)],
    /// Fills in what is no plain function.
    fill: Option<fn(&Rc<LuaWorker>, &mut Vm, Gc<Table>)>,
}

/// The version of lua-resty-core whose functions these are; scripts compare it.
const VERSION: &str = "0.1.33";

const fn named(name: &'static str) -> Module {
    Module { name, fns: &[], shares: &[], fill: None }
}

/// The modules that are there without being asked for.
const LOADED: &[Module] = &[
    Module { fill: Some(base), ..named("resty.core.base") },
    named("resty.core.base64"),
    named("resty.core.coroutine"),
    Module { fns: super::ctx::MODULE, ..named("resty.core.ctx") },
    named("resty.core.exit"),
    named("resty.core.hash"),
    named("resty.core.misc"),
    named("resty.core.ndk"),
    named("resty.core.param"),
    named("resty.core.phase"),
    named("resty.core.regex"),
    Module { shares: &[("set_req_header", "ngx.req.set_header")], ..named("resty.core.request") },
    Module { fns: resp::CORE, ..named("resty.core.response") },
    named("resty.core.shdict"),
    named("resty.core.socket"),
    Module { fns: super::time::MODULE, ..named("resty.core.time") },
    named("resty.core.uri"),
    Module { fns: encode::UTILS, ..named("resty.core.utils") },
    named("resty.core.var"),
    named("resty.core.worker"),
    named("resty.core"),
];

/// The modules that are made when they are asked for.
const ON_DEMAND: &[Module] = &[
    Module { fns: encode::BASE64, ..named("ngx.base64") },
    Module { fns: errlog::FNS, ..named("ngx.errlog") },
    Module { fns: pipe::FNS, fill: Some(pipe::fill), ..named("ngx.pipe") },
    Module { fns: process::FNS, ..named("ngx.process") },
    Module { fns: re::MODULE, ..named("ngx.re") },
    Module { fns: req::MODULE, ..named("ngx.req") },
    Module { fns: resp::MODULE, ..named("ngx.resp") },
    Module { fns: semaphore::FNS, fill: Some(semaphore::fill), ..named("ngx.semaphore") },
];

/// Modules that need what this server does not have yet, and what that is.
const REFUSED: &[(&str, &str)] = &[
    ("ngx.ocsp", "TLS"),
    ("ngx.proxyssl", "TLS"),
    ("ngx.ssl", "TLS"),
    ("ngx.ssl.clienthello", "TLS"),
    ("ngx.ssl.proxysslcert", "TLS"),
    ("ngx.ssl.proxysslverify", "TLS"),
    ("ngx.ssl.session", "TLS"),
];

/// Puts the modules where `require` finds them.
pub fn install(w: &Rc<LuaWorker>, vm: &mut Vm) {
    let globals = vm.globals;
    let loaded = subtable(vm, globals, "package.loaded");
    for name in ["ngx", "ndk"] {
        let v = vm.global(name.as_bytes());
        set_field(vm, loaded, name.as_bytes(), v);
    }
    for m in LOADED {
        let t = make(w, vm, m);
        set_field(vm, loaded, m.name.as_bytes(), Value::obj(t));
    }
    let preload = subtable(vm, globals, "package.preload");
    let loader = Value::obj(vm.new_native(NativeRow::new("require.builtin", load), &[]));
    let names = ON_DEMAND.iter().map(|m| m.name).chain(REFUSED.iter().map(|(n, _)| *n));
    for name in names {
        set_field(vm, preload, name.as_bytes(), loader);
    }
}

fn make(w: &Rc<LuaWorker>, vm: &mut Vm, m: &Module) -> Gc<Table> {
    let t = vm.heap.new_table(0, 2);
    for field in [&b"version"[..], b"_VERSION"] {
        let v = string(vm, VERSION);
        set_field(vm, t, field, v);
    }
    fill_with(w, vm, t, m.fns);
    for (field, path) in m.shares {
        let (at, name) = path.rsplit_once('.').unwrap_or(("", path));
        let globals = vm.globals;
        let from = subtable(vm, globals, at);
        let v = from.get_bytes(&vm.heap, name.as_bytes());
        set_field(vm, t, field.as_bytes(), v);
    }
    if let Some(fill) = m.fill {
        fill(w, vm, t);
    }
    t
}

/// The loader of the modules that are made on demand.
fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let name = vm.raw_text(vm.arg(0));
    if let Some(m) = ON_DEMAND.iter().find(|m| m.name.as_bytes() == name) {
        let w = here();
        return Ok(Outcome::one(Value::obj(make(&w, vm, m))));
    }
    let shown = String::from_utf8_lossy(&name).into_owned();
    let needs = REFUSED.iter().find(|(n, _)| n.as_bytes() == name).map_or("more", |(_, needs)| *needs);
    let text = format!("module '{shown}' needs {needs}, which this server does not support yet");
    Err(vm.throw_plain(text.as_bytes()))
}

/// `resty.core.base`: helpers of libraries that talk to C. They need the ffi library.
fn base(_: &Rc<LuaWorker>, vm: &mut Vm, t: Gc<Table>) {
    const SOURCE: &[u8] = include_bytes!("base.lua");
    let request = Value::obj(vm.new_native(NativeRow::new("get_request", get_request), &[]));
    let made = vm
        .load(SOURCE, b"=resty.core.base", b"t", None)
        .is_ok_and(|f| vm.call(Value::obj(f), &[Value::obj(t), request]).is_ok());
    debug_assert!(made, "resty.core.base is part of the program");
}

/// `get_request()`: something that stands for the request; nil in `init_by_lua*`. It must not be looked into.
fn get_request(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    let address = match (w.request(), w.run()) {
        (Some(r), _) => Rc::as_ptr(&r) as usize,
        (None, Some(run)) if run.phase != crate::phase::Phase::Init => Rc::as_ptr(&run) as usize,
        _ => return Ok(Outcome::one(Value::NIL)),
    };
    let v = vm.lightud(address as u64).unwrap_or(Value::TRUE);
    Ok(Outcome::one(v))
}

#[cfg(test)]
mod tests {
    use super::{LOADED, ON_DEMAND, REFUSED};

    #[test]
    fn every_name_stands_once() {
        let mut names: Vec<&str> = LOADED.iter().chain(ON_DEMAND).map(|m| m.name).collect();
        names.extend(REFUSED.iter().map(|(n, _)| *n));
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
