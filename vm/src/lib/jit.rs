//! The `jit` table. Compiling is the jit crate's business: without it everything here still answers, truthfully.

use super::set_field;
use crate::heap::gc_ref::Gc;
use crate::state::Vm;
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

/// Names of the optimizations that `jit.opt.start` switches.
const FLAGS: &[&str] = &["fold", "cse", "dce", "fwd", "dse", "narrow", "loop", "abc", "sink", "fuse", "fma"];

/// Parameters that `jit.opt.start` sets.
const PARAMS: &[&str] = &[
    "maxtrace",
    "maxrecord",
    "maxirconst",
    "maxside",
    "maxsnap",
    "minstitch",
    "hotloop",
    "hotexit",
    "tryside",
    "instunroll",
    "loopunroll",
    "callunroll",
    "recunroll",
    "sizemcode",
    "maxmcode",
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
}

/// The `jit` table itself, for those who add to it.
pub fn table(vm: &mut Vm) -> Option<Gc<Table>> {
    super::base::loaded_table(vm).get_bytes(&vm.heap, b"jit").as_obj()
}

/// `jit.status()`: whether the compiler is on, then the names of what it uses.
fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::bool(vm.jit.is_some())))
}

/// `jit.on(f, recursive)`. Raises `JIT compiler disabled` where there is none and the whole compiler is meant.
fn on(vm: &mut Vm, _: Entry) -> NativeResult {
    if vm.jit.is_none() && vm.arg_opt(0).is_none() {
        return Err(vm.throw_str(b"JIT compiler disabled"));
    }
    Ok(Outcome::none())
}

/// `jit.off(f, recursive)`.
fn off(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::none())
}

/// `jit.flush(f or trace)`: throws compiled code away.
fn flush(vm: &mut Vm, _: Entry) -> NativeResult {
    if let Some(mut jit) = vm.jit.take() {
        jit.flush(vm);
        vm.jit = Some(jit);
    }
    Ok(Outcome::none())
}

/// `jit.security()`: the security settings as four small numbers, as LuaJIT's default build has them.
fn security(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::int(0)))
}

/// `jit.attach(fn, event)`: events are delivered by the jit crate, which replaces this.
fn attach(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.check_func(0)?;
    Ok(Outcome::none())
}

/// `jit.prngstate()`: state of the generator of the compiler's heuristics; there is none here.
fn prngstate(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::int(0)))
}

/// Is this an option `jit.opt.start` knows?
fn known_option(s: &str) -> bool {
    if let Ok(level) = s.parse::<u32>() {
        return level <= 9;
    }
    if let Some((name, value)) = s.split_once('=') {
        return PARAMS.contains(&name) && value.parse::<u32>().is_ok();
    }
    let name = s.strip_prefix("no").filter(|n| FLAGS.contains(n)).unwrap_or(s);
    FLAGS.contains(&name.trim_start_matches(['+', '-']))
}

/// `jit.opt.start(...)`. Raises `unknown or malformed optimization flag 'x'`.
fn opt_start(vm: &mut Vm, e: Entry) -> NativeResult {
    for i in 0..e.count() {
        let s: Gc<Str> = vm.check_str(i)?;
        let text = String::from_utf8_lossy(s.bytes(&vm.heap)).into_owned();
        if !known_option(&text) {
            let text = format!("unknown or malformed optimization flag '{text}'");
            return Err(vm.throw_str(text.as_bytes()));
        }
    }
    Ok(Outcome::none())
}
