//! The `ngx` API: one file per topic, each with its `FNS` table.
//!
//! A row names a function, says in which phases it may be called and whether it
//! waits; registration, the phase check and its message follow from the row.

pub mod abort;
pub mod balancer;
pub mod consts;
pub mod ctx;
pub mod encode;
pub mod environment;
pub mod errlog;
pub mod exit;
pub mod guard;
pub mod hash;
pub mod location;
pub mod log;
pub mod modules;
pub mod ndk;
pub mod pipe;
pub mod process;
pub mod re;
pub mod req;
pub mod resp;
pub mod say;
pub mod semaphore;
pub mod shdict;
pub mod sleep;
pub mod socket;
pub mod thread;
pub mod time;
pub mod timer;
pub mod var;
pub mod worker;
pub mod worker_thread;

use std::rc::Rc;

use moonlit_vm::host::native::{
    Entry, Gc, NativeFn, NativeResult, NativeRow, Outcome, Raised, Table, Value, Vm,
};

use crate::lua::args::set_field;
use crate::lua::worker::{Limit, LuaWorker, here};
use crate::phase::{Phase, Phases};
use crate::request::Request;

/// One function of the API.
#[derive(Clone, Copy)]
pub struct ApiFn {
    /// Full name: `ngx.req.get_method`.
    pub name: &'static str,
    /// Where it may be called.
    pub phases: Phases,
    /// Whether it may wait.
    pub yields: bool,
    /// The function.
    pub f: NativeFn,
}

impl ApiFn {
    /// A function that never waits.
    pub const fn plain(name: &'static str, phases: Phases, f: NativeFn) -> ApiFn {
        ApiFn { name, phases, yields: false, f }
    }

    /// A function that may wait. `phases` is where upstream lets it; without `lua_strict_phases` it
    /// works everywhere but before the workers are there.
    pub const fn yields(name: &'static str, phases: Phases, f: NativeFn) -> ApiFn {
        ApiFn { name, phases, yields: true, f }
    }
}

/// Every table of functions below `ngx`.
pub const TABLES: &[&[ApiFn]] = &[
    abort::FNS,
    consts::FNS,
    encode::FNS,
    exit::FNS,
    hash::FNS,
    location::FNS,
    log::FNS,
    re::FNS,
    req::FNS,
    resp::FNS,
    say::FNS,
    sleep::FNS,
    socket::request::FNS,
    socket::tcp::FNS,
    socket::udp::FNS,
    thread::FNS,
    time::FNS,
    timer::FNS,
    worker::FNS,
    worker_thread::FNS,
];

/// The tables that states on other threads have: what needs no request.
const THREAD_TABLES: &[&[ApiFn]] = &[encode::FNS, hash::FNS];

fn install_tables(w: &Rc<LuaWorker>, vm: &mut Vm, tables: &[&[ApiFn]]) -> Gc<Table> {
    let ngx = vm.heap.new_table(0, 7);
    let globals = vm.globals;
    set_field(vm, globals, b"ngx", Value::obj(ngx));
    for rows in tables {
        for row in *rows {
            let f = function(w, vm, row);
            let (path, name) = row.name.rsplit_once('.').unwrap_or(("", row.name));
            let t = subtable(vm, globals, path);
            set_field(vm, t, name.as_bytes(), f);
        }
    }
    ngx
}

/// Makes what a state on another thread has of `ngx`: encodings, digests, `config`, shared dictionaries.
pub fn install_for_threads(w: &Rc<LuaWorker>) {
    w.enter(|vm| {
        let ngx = install_tables(w, vm, THREAD_TABLES);
        let config = subtable(vm, ngx, "config");
        let rows = consts::FNS.iter().filter(|r| r.name.starts_with("ngx.config."));
        fill_with(w, vm, config, rows);
        consts::install_config(vm, ngx);
        shdict::install(w, vm, ngx);
    });
}

/// Makes `ngx` and its relatives in a fresh VM.
pub fn install(w: &Rc<LuaWorker>) {
    w.enter(|vm| {
        let ngx = install_tables(w, vm, TABLES);
        let globals = vm.globals;
        consts::install(vm, ngx);
        ctx::install(w, vm, ngx);
        resp::install(w, vm, ngx);
        var::install(w, vm, ngx);
        shdict::install(w, vm, ngx);
        socket::install(w, vm);
        balancer::install(w, vm);
        let print = function(w, vm, &log::PRINT);
        set_field(vm, globals, b"print", print);
        thread::install(vm);
        ndk::install(w, vm);
        environment::install(w, vm);
        modules::install(w, vm);
    });
}

/// The table at a dotted path below the globals; made where it is missing.
pub fn subtable(vm: &mut Vm, from: Gc<Table>, path: &str) -> Gc<Table> {
    let mut t = from;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        t = match t.get_bytes(&vm.heap, part.as_bytes()).as_obj() {
            Some(inner) => inner,
            None => {
                let inner = vm.heap.new_table(0, 4);
                set_field(vm, t, part.as_bytes(), Value::obj(inner));
                inner
            }
        };
    }
    t
}

/// Puts a function for each row into a table, under the last part of its name.
pub fn fill_with<'r>(w: &LuaWorker, vm: &mut Vm, t: Gc<Table>, rows: impl IntoIterator<Item = &'r ApiFn>) {
    for row in rows {
        let f = function(w, vm, row);
        set_field(vm, t, last_part(row.name).as_bytes(), f);
    }
}

/// `y` of `x.y`, a name without dots as it is.
pub fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// A metatable with a function for each row, which is its own `__index`: scripts that add methods to it, as some
/// do for sockets, have them found.
pub fn methods_metatable<'r>(
    w: &LuaWorker,
    vm: &mut Vm,
    rows: impl IntoIterator<Item = &'r ApiFn>,
) -> Gc<Table> {
    let meta = vm.heap.new_table(0, 5);
    fill_with(w, vm, meta, rows);
    set_field(vm, meta, b"__index", Value::obj(meta));
    meta
}

/// A function value for a row, with its phase check.
pub fn function(w: &LuaWorker, vm: &mut Vm, row: &ApiFn) -> Value {
    let phases = match (row.yields, w.strict()) {
        // What upstream grants to timers needs no request.
        (true, false) if row.phases.has(Phase::Timer) => {
            Phases::ANY.without(Phases::of(Phase::Init)).without(Phases::of(Phase::ExitWorker))
        }
        (true, false) => row.phases.or(Phases::REQUEST),
        _ => row.phases,
    };
    let limited = phases != Phases::ANY;
    let native = NativeRow::new(row.name, if limited { gate } else { row.f });
    let f = vm.new_native(native, &[]);
    if limited {
        // The row just added is the last one.
        let at = vm.natives.len() - 1;
        let mut limits = w.limits.borrow_mut();
        if limits.len() <= at {
            limits.resize(at + 1, None);
        }
        let only_request = row.phases == Phases::REQUEST && !row.yields;
        limits[at] = Some(Limit { phases, only_request, f: row.f });
    }
    Value::obj(f)
}

/// What stands in front of functions that are not allowed everywhere.
fn gate(vm: &mut Vm, e: Entry) -> NativeResult {
    let w = here();
    let limit = w.limits.borrow().get(vm.running_native().index()).copied().flatten();
    let Some(limit) = limit else { return Err(vm.throw_str(b"API function without a row")) };
    if e.label() == 0 && !limit.phases.has(w.phase()) {
        if limit.only_request {
            // Here only the request is missing, not a power of the phase.
            return Err(no_request(vm, w.phase()));
        }
        return Err(disabled(vm, w.phase()));
    }
    (limit.f)(vm, e)
}

/// Raises the refusal of a phase.
pub fn disabled(vm: &mut Vm, phase: Phase) -> Raised {
    vm.throw_str(phase.disabled_message().as_bytes())
}

/// Raises that there is no request in this phase.
pub fn no_request(vm: &mut Vm, phase: Phase) -> Raised {
    match phase {
        Phase::Init => vm.throw_str(b"no request found"),
        _ => vm.throw_str(b"API disabled in the current context"),
    }
}

/// The request that the running code handles, or the error that there is none.
pub fn request(vm: &mut Vm) -> Result<Rc<Request>, Raised> {
    let w = here();
    match w.request() {
        Some(r) => Ok(r),
        None => Err(no_request(vm, w.phase())),
    }
}

/// Returns a boolean.
pub fn yes(b: bool) -> NativeResult {
    Ok(Outcome::one(Value::bool(b)))
}

#[cfg(test)]
mod tests {
    use super::TABLES;

    #[test]
    fn names_are_unique_and_below_ngx() {
        let mut names: Vec<&str> = TABLES.iter().flat_map(|t| t.iter().map(|r| r.name)).collect();
        assert!(names.iter().all(|n| n.starts_with("ngx.")));
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
