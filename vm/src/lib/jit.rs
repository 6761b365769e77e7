//! The `jit` table. Compiling is the jit crate's business: without it everything here still answers, truthfully.

use super::set_field;
use crate::bytecode::protodef::protoflags;
use crate::cell::gc_ref::Gc;
use crate::function::closure::Func;
use crate::function::proto::Proto;
use crate::state::Vm;
use crate::state::hooks::JitHooks;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome};
use crate::string::Str;
use crate::table::Table;
use crate::value::Value;

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("jit.attach", attach),
    NativeRow::new("jit.flush", flush),
    NativeRow::new("jit.off", off),
    NativeRow::new("jit.on", on),
    NativeRow::new("jit.prngstate", prngstate),
    NativeRow::new("jit.security", security),
    NativeRow::new("jit.status", status),
];

/// Functions of `jit.opt`.
pub const OPT_FNS: &[NativeRow] = &[NativeRow::new("jit.opt.start", opt_start)];

/// Version of LuaJIT whose behaviour this is.
pub const VERSION: &str = "LuaJIT 2.1.0";
/// The same as a number.
pub const VERSION_NUM: i32 = 20199;

/// Functions of `jit.v`.
pub const V_FNS: &[NativeRow] = &[
    NativeRow::new("jit.v.off", v_off),
    NativeRow::new("jit.v.on", v_on),
    NativeRow::new("jit.v.start", v_on),
];

/// Opens the library.
pub fn open(vm: &mut Vm) {
    let t = super::new_library(vm, "jit", FNS);
    let version = vm.heap.str(VERSION.as_bytes());
    set_field(vm, t, "version", Value::obj(version));
    set_field(vm, t, "version_num", Value::int(VERSION_NUM));
    let os = vm.heap.str(match std::env::consts::OS {
        "linux" => b"Linux",
        "macos" => b"OSX",
        "windows" => b"Windows",
        "freebsd" | "openbsd" | "netbsd" | "dragonfly" => b"BSD",
        _ => b"POSIX",
    });
    set_field(vm, t, "os", Value::obj(os));
    let arch = vm.heap.str(match std::env::consts::ARCH {
        "x86_64" => b"x64",
        "aarch64" => b"arm64",
        other => other.as_bytes(),
    });
    set_field(vm, t, "arch", Value::obj(arch));
    let opt = vm.heap.new_table(0, 1);
    vm.register(opt, OPT_FNS);
    set_field(vm, t, "opt", Value::obj(opt));
    super::set_loaded(vm, "jit.opt", Value::obj(opt));
    let v = vm.heap.new_table(0, 2);
    vm.register(v, V_FNS);
    super::set_loaded(vm, "jit.v", Value::obj(v));
}

/// The `jit` table itself, for those who add to it.
pub fn table(vm: &mut Vm) -> Option<Gc<Table>> {
    super::base::loaded_table(vm).get_bytes(&vm.heap, b"jit").as_obj()
}

/// Calls the compiler's hooks, if there is a compiler. It is taken out meanwhile, so it may use the whole VM.
fn with_compiler<R>(vm: &mut Vm, f: impl FnOnce(&mut dyn JitHooks, &mut Vm) -> R) -> Option<R> {
    let mut jit = vm.jit.take()?;
    let r = f(&mut *jit, vm);
    vm.jit = Some(jit);
    Some(r)
}

/// `jit.status()`: whether the compiler is on, then the names of what it uses.
fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    let on = vm.jit_on();
    let names = vm.jit.as_ref().map(|j| j.options_on()).unwrap_or_default();
    vm.ensure_slots(names.len() + 1)?;
    vm.push(Value::bool(on));
    for n in &names {
        let s = vm.heap.str(n.as_bytes());
        vm.push(Value::obj(s));
    }
    Ok(Outcome::top(names.len() + 1))
}

/// The prototypes that `jit.on`, `jit.off` and `jit.flush` mean: of function `f` (`true`: the caller), or with
/// `children` alone only of the functions inside it.
fn set_nojit(vm: &mut Vm, off: bool) -> NativeResult {
    let f = match vm.arg(0) {
        Value::TRUE => vm.frame_at(vm.cur, 1).and_then(|f| vm.frame_func(f)),
        v => v.as_obj::<Func>(),
    };
    let Some(proto) = f.and_then(|f| f.as_lua(&vm.heap)).map(|f| f.get(&vm.heap).proto) else {
        return Err(vm.type_error(0, "function"));
    };
    // `true`: the function and those inside it; `false`: only those inside it.
    let (own, inside) = match vm.arg_opt(1) {
        None | Some(Value::NIL) => (true, false),
        Some(v) => (v.truthy(), true),
    };
    let mut work = vec![(proto, own)];
    while let Some((p, mark)) = work.pop() {
        if mark {
            let flags = &mut p.get_mut(&mut vm.heap).flags;
            *flags = if off { *flags | protoflags::NOJIT } else { *flags & !protoflags::NOJIT };
        }
        if inside {
            let n = p.get(&vm.heap).nkgc;
            work.extend((0..n).filter_map(|i| p.get(&vm.heap).kgc(i)?.as_obj::<Proto>()).map(|c| (c, true)));
        }
    }
    Ok(Outcome::none())
}

/// `jit.on(f, recursive)`. Raises `JIT compiler disabled` where there is none and the whole compiler is meant.
fn on(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.arg_opt(0).is_some_and(|v| !v.is_nil()) {
        return set_nojit(vm, false);
    }
    if vm.jit.is_none() {
        return Err(vm.throw_str(b"JIT compiler disabled"));
    }
    vm.set_jit_on(true);
    Ok(Outcome::none())
}

/// `jit.off(f, recursive)`: nothing new is compiled; what is compiled stays in use.
fn off(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.arg_opt(0).is_some_and(|v| !v.is_nil()) {
        return set_nojit(vm, true);
    }
    with_compiler(vm, |j, vm| j.abort_recording(vm));
    vm.set_jit_on(false);
    Ok(Outcome::none())
}

/// `jit.v.start()`, `jit.v.on()`: a line on standard error for every trace and every abort.
fn v_on(vm: &mut Vm, _: Entry) -> NativeResult {
    with_compiler(vm, |j, _| j.set_verbose(true));
    Ok(Outcome::none())
}

/// `jit.v.off()`.
fn v_off(vm: &mut Vm, _: Entry) -> NativeResult {
    with_compiler(vm, |j, _| j.set_verbose(false));
    Ok(Outcome::none())
}

/// `jit.flush(f or trace)`: throws compiled code away.
fn flush(vm: &mut Vm, _: Entry) -> NativeResult {
    with_compiler(vm, |j, vm| j.flush(vm));
    Ok(Outcome::none())
}

/// `jit.security(what)`: level of a security setting. Raises `invalid option 'x'`.
fn security(vm: &mut Vm, _: Entry) -> NativeResult {
    super::check_option(vm, 0, None, &["prng", "strhash", "strid", "mcode"])?;
    // Seeded random numbers and string hashes, random object ids, no memory both writable and executable.
    Ok(Outcome::one(Value::int(1)))
}

/// `jit.attach(fn, event)`: no events are delivered yet, and saying so beats silence.
fn attach(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.check_func(0)?;
    if vm.arg_opt(1).is_none_or(|v| v.is_nil()) {
        return Ok(Outcome::none());
    }
    Err(vm.throw_str(b"jit.attach: events are not supported yet"))
}

/// `jit.prngstate()`: state of the generator of the compiler's heuristics; there is none here.
fn prngstate(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::int(0)))
}

/// `jit.opt.start(...)`. Raises `unknown or malformed optimization flag 'x'`.
fn opt_start(vm: &mut Vm, e: Entry) -> NativeResult {
    for i in 0..e.count() {
        let s: Gc<Str> = vm.check_str(i)?;
        let text = String::from_utf8_lossy(s.bytes(&vm.heap)).into_owned();
        if with_compiler(vm, |j, vm| j.set_option(vm, &text)) != Some(true) {
            let text = format!("unknown or malformed optimization flag '{text}'");
            return Err(vm.throw_str(text.as_bytes()));
        }
    }
    Ok(Outcome::none())
}
