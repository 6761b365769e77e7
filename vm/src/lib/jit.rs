//! The `jit` table of a machine without a compiler: everything answers, truthfully. The compiler replaces `on`, `off`,
//! `flush` and `status`, and adds `jit.opt` and the modules about traces.

use super::{new_string, set_field};
use crate::bytecode::protodef::protoflags;
use crate::cell::gc_ref::Gc;
use crate::function::closure::Func;
use crate::function::proto::Proto;
use crate::state::Vm;
use crate::state::hooks::{AbortInfo, CodePlace, TraceEvent, eventmask};
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use crate::table::Table;
use crate::value::Value;

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("jit.attach", attach),
    NativeRow::new("jit.flush", flush),
    NativeRow::new("jit.off", off),
    NativeRow::new("jit.on", on),
    NativeRow::new("jit.security", security),
    NativeRow::new("jit.status", status),
];

/// Version of LuaJIT whose behaviour this is.
pub const VERSION: &str = "LuaJIT 2.1.0";
/// The same as a number.
pub const VERSION_NUM: i32 = 20199;

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
}

/// The `jit` table itself, for those who add to it.
pub fn table(vm: &mut Vm) -> Option<Gc<Table>> {
    super::base::loaded_table(vm).get_bytes(&vm.heap, b"jit").as_obj()
}

/// `jit.status()`: no compiler is on.
fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::bool(vm.jit_on())))
}

/// What the arguments of `jit.on`, `jit.off` and `jit.flush` name.
pub enum Target {
    /// The whole compiler: no argument, or nil.
    Whole,
    /// A trace.
    Trace(i32),
    /// Functions, with their prototypes.
    Protos(Vec<Gc<Proto>>),
}

/// Reads the arguments of `jit.on`, `jit.off` and `jit.flush`: `f` (a Lua function, its prototype, `true` for the
/// caller), then whether the functions inside it are meant too (`true`), or they alone (`false`); anything else there
/// is ignored. A number, where `traces` are allowed, names one. Raises `bad argument #1 to 'on' (function expected, got
/// x)`.
pub fn target(vm: &mut Vm, traces: bool) -> Result<Target, Raised> {
    let v = vm.arg(0);
    if v.is_nil() {
        return Ok(Target::Whole);
    }
    if traces && v.is_num() {
        return vm.check_int(0).map(Target::Trace);
    }
    let f = match v {
        Value::TRUE => vm.frame_at(vm.cur, 1).and_then(|f| vm.frame_func(f)),
        v => v.as_obj::<Func>(),
    };
    let lua = f.and_then(|f| f.as_lua(&vm.heap)).map(|f| f.get(&vm.heap).proto);
    let Some(root) = lua.or(v.as_obj::<Proto>()) else { return Err(vm.type_error(0, "function")) };
    let (own, inside) = match vm.arg(1) {
        Value::TRUE => (true, true),
        Value::FALSE => (false, true),
        _ => (true, false),
    };
    let mut all = Vec::new();
    let mut work = vec![(root, own)];
    while let Some((p, meant)) = work.pop() {
        if meant {
            all.push(p);
        }
        if inside {
            let p = p.get(&vm.heap);
            work.extend((0..p.nkgc).filter_map(|i| p.kgc(i)?.as_obj::<Proto>()).map(|c| (c, true)));
        }
    }
    Ok(Target::Protos(all))
}

/// Marks prototypes as not to be compiled, or takes the mark away.
pub fn set_nojit(vm: &mut Vm, protos: &[Gc<Proto>], off: bool) {
    for p in protos {
        let flags = &mut p.get_mut(&mut vm.heap).flags;
        *flags = if off { *flags | protoflags::NOJIT } else { *flags & !protoflags::NOJIT };
    }
}

/// `jit.on(f, inside)`. Raises `JIT compiler disabled` where the whole compiler is meant: there is none.
fn on(vm: &mut Vm, _: Entry) -> NativeResult {
    match target(vm, false)? {
        Target::Protos(p) => set_nojit(vm, &p, false),
        _ => return Err(vm.throw_str(b"JIT compiler disabled")),
    }
    Ok(Outcome::none())
}

/// `jit.off(f, inside)`.
fn off(vm: &mut Vm, _: Entry) -> NativeResult {
    if let Target::Protos(p) = target(vm, false)? {
        set_nojit(vm, &p, true);
    }
    Ok(Outcome::none())
}

/// `jit.flush(f or trace)`: nothing was compiled.
fn flush(vm: &mut Vm, _: Entry) -> NativeResult {
    target(vm, true)?;
    Ok(Outcome::none())
}

/// `jit.security(what)`: level of a security setting. Raises `invalid option 'x'`.
fn security(vm: &mut Vm, _: Entry) -> NativeResult {
    super::check_option(vm, 0, None, &["prng", "strhash", "strid", "mcode"])?;
    // Seeded random numbers and string hashes, random object ids, no memory both writable and executable.
    Ok(Outcome::one(Value::int(1)))
}

/// Where the function attached to the event `bc` is kept in the registry.
const BC_HANDLER: &str = "_VMEVENT_BC";

/// Where the function attached to the event `errfin` is kept in the registry.
const ERRFIN_HANDLER: &str = "_VMEVENT_ERRFIN";

/// Where the functions attached to the compiler's events are kept, and which those are.
const TRACE_HANDLERS: [(&[u8], &str, u8); 3] = [
    (b"trace", "_VMEVENT_TRACE", eventmask::TRACE),
    (b"record", "_VMEVENT_RECORD", eventmask::RECORD),
    (b"texit", "_VMEVENT_TEXIT", eventmask::EXIT),
];

/// `jit.attach(f, event)`: calls `f` at each event; `jit.attach(f)` ends that. The event `bc` passes the prototype
/// of each function that is compiled from source or loaded; `trace` passes what happened (`start`, `stop`, `abort`,
/// `flush`), the trace, function and position, and for a side trace its parent and exit, for an abort its number in
/// `jit.vmdef.traceerr` and what the text there names (the number of an instruction, a function, or a name);
/// `record` each recorded instruction: trace, function, position, depth of calls; `texit` trace and exit, how many
/// values it has saved from general registers and from those of floating point numbers, and those values. They come before the program's next instruction. `errfin` passes the error of a finalizer, which is
/// not reported then. Events of other names never come.
fn attach(vm: &mut Vm, _: Entry) -> NativeResult {
    let f = Value::obj(vm.check_func(0)?);
    let registry = vm.registry;
    let Some(event) = vm.opt_str(1)? else {
        if registry.get_bytes(&vm.heap, BC_HANDLER.as_bytes()).raw_identical(f) {
            set_field(vm, registry, BC_HANDLER, Value::NIL);
            vm.on_load = None;
        }
        if registry.get_bytes(&vm.heap, ERRFIN_HANDLER.as_bytes()).raw_identical(f) {
            set_field(vm, registry, ERRFIN_HANDLER, Value::NIL);
            vm.on_finalizer_error = None;
        }
        for (_, key, bit) in TRACE_HANDLERS {
            if registry.get_bytes(&vm.heap, key.as_bytes()).raw_identical(f) {
                set_field(vm, registry, key, Value::NIL);
                vm.events.listening &= !bit;
            }
        }
        return Ok(Outcome::none());
    };
    let name = event.bytes(&vm.heap);
    if let Some((_, key, bit)) = TRACE_HANDLERS.into_iter().find(|h| h.0 == name) {
        set_field(vm, registry, key, f);
        vm.events.listening |= bit;
        vm.events.deliver = Some(tell);
        return Ok(Outcome::none());
    }
    if name == b"errfin" {
        set_field(vm, registry, ERRFIN_HANDLER, f);
        vm.on_finalizer_error = Some(finalizer_failed);
        return Ok(Outcome::none());
    }
    if name != b"bc" {
        // An event that never comes.
        return Ok(Outcome::none());
    }
    set_field(vm, registry, BC_HANDLER, f);
    vm.on_load = Some(loaded);
    Ok(Outcome::none())
}

/// Calls the function attached to an event of the compiler, if it still is.
fn tell(vm: &mut Vm, event: TraceEvent) {
    let number = |n: u32| Value::num(f64::from(n));
    let what = match &event {
        TraceEvent::Start { .. } => "start",
        TraceEvent::Stop { .. } => "stop",
        TraceEvent::Abort { .. } => "abort",
        _ => "flush",
    };
    let mut args = vec![Value::obj(vm.heap.str(what.as_bytes()))];
    let place = |no: u32, at: CodePlace| [number(no), at.func, Value::int(at.pos)];
    let kind = match event {
        TraceEvent::Start { no, at, parent } => {
            args.extend(place(no, at));
            if let Some((trace, exit)) = parent {
                args.extend([number(trace), number(exit)]);
            }
            0
        }
        TraceEvent::Stop { no, at } => {
            args.extend(place(no, at));
            0
        }
        TraceEvent::Abort { no, at, why } => {
            args.extend(place(no, at));
            args.push(number(why.number));
            match why.info {
                Some(AbortInfo::Op(op)) => args.push(number(op as u32)),
                Some(AbortInfo::Func(f)) => args.push(f),
                Some(AbortInfo::Name(name)) => args.push(Value::obj(vm.heap.str(name.as_bytes()))),
                None => {}
            }
            0
        }
        TraceEvent::Flush => 0,
        TraceEvent::Record { no, at, depth } => {
            args.clear();
            args.extend(place(no, at));
            args.push(number(depth));
            1
        }
        TraceEvent::Exit { no, exit, general, floats } => {
            args.clear();
            let [n, m] = [general.len(), floats.len()].map(|n| number(n as u32));
            args.extend([number(no), number(exit), n, m]);
            args.extend(
                general.iter().map(|v| Value::num(*v as f64)).chain(floats.iter().map(|v| Value::num(*v))),
            );
            2
        }
    };
    let handler = vm.registry.get_bytes(&vm.heap, TRACE_HANDLERS[kind].1.as_bytes());
    if !handler.is_nil() && vm.call(handler, &args).is_err() {
        handler_failed(vm);
    }
}

/// Calls the function attached to `errfin` with the error.
fn finalizer_failed(vm: &mut Vm, err: Value) {
    let handler = vm.registry.get_bytes(&vm.heap, ERRFIN_HANDLER.as_bytes());
    if vm.call(handler, &[err]).is_err() {
        handler_failed(vm);
    }
}

/// Reports the error of an attached function; it goes no further.
fn handler_failed(vm: &mut Vm) {
    let err = vm.take_error();
    let text = vm.raw_text(err);
    eprintln!("VM handler failed: {}", String::from_utf8_lossy(&text));
}

/// Tells the function attached to `bc` about a function that was just made and those inside it, innermost first. An
/// error in it is printed and goes no further.
fn loaded(vm: &mut Vm, f: Gc<Func>) {
    let root = vm.heap.roots.add(Value::obj(f));
    let mut protos = Vec::new();
    let mut work: Vec<Gc<Proto>> = f.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto).into_iter().collect();
    while let Some(p) = work.pop() {
        protos.push(p);
        let p = p.get(&vm.heap);
        work.extend((0..p.nkgc).filter_map(|i| p.kgc(i)?.as_obj::<Proto>()));
    }
    for p in protos.into_iter().rev() {
        let handler = vm.registry.get_bytes(&vm.heap, BC_HANDLER.as_bytes());
        // What it loads itself is not listed.
        vm.on_load = None;
        if vm.call(handler, &[Value::obj(p)]).is_err() {
            handler_failed(vm);
        }
        let attached = !vm.registry.get_bytes(&vm.heap, BC_HANDLER.as_bytes()).is_nil();
        vm.on_load = attached.then_some(loaded as fn(&mut Vm, Gc<Func>));
    }
    vm.heap.roots.remove(root);
}

/// A string as a field.
pub(super) fn set_text(vm: &mut Vm, t: Gc<Table>, name: &str, text: &[u8]) -> Result<(), Raised> {
    let v = new_string(vm, text)?;
    set_field(vm, t, name, v);
    Ok(())
}
