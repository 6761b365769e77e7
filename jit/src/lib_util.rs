//! What Lua sees of the JIT: `jit.on`, `jit.off`, `jit.flush`, `jit.status`, `jit.opt.start`, the traces in `jit.util` and
//! `jit.vmdef`, module `jit.v`. They replace the functions the VM's own library has for a machine
//! without a compiler.

use crate::abort;
use crate::ir::ins::{Field, fpm};
use crate::lower::helpers::Helper;
use crate::options::{FLAG_NAMES, Options};
use crate::trace::penalty::Prng;
use moonlit_vm::cdata::ctid;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::index::TraceNo;
use moonlit_vm::lib::jit::{Target, set_nojit, target};
use moonlit_vm::lib::jit_util::VmdefMore;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::{JitHooks, TraceValue};
use moonlit_vm::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Options shared between the engine and the library, with a number that grows with each change, and the random numbers.
#[derive(Clone, Debug, Default)]
pub struct Shared(pub Rc<RefCell<(Options, u64)>>, Rc<Cell<Prng>>);

impl Shared {
    /// Changes the options.
    pub fn change<T>(&self, f: impl FnOnce(&mut Options) -> T) -> T {
        let mut s = self.0.borrow_mut();
        s.1 += 1;
        f(&mut s.0)
    }

    /// The next random number.
    pub fn random(&self) -> u64 {
        let mut p = self.1.get();
        let n = p.draw();
        self.1.set(p);
        n
    }
}

const FNS: &[NativeRow] = &[
    NativeRow::new("jit.on", on),
    NativeRow::new("jit.off", off),
    NativeRow::new("jit.flush", flush),
    NativeRow::new("jit.status", status),
];
/// What OpenResty's LuaJIT adds.
const FNS52: &[NativeRow] = &[NativeRow::new("jit.prngstate", prngstate)];
const UTIL_FNS: &[NativeRow] = &[
    NativeRow::new("jit.util.ircalladdr", ircalladdr),
    NativeRow::new("jit.util.traceexitstub", traceexitstub),
    NativeRow::new("jit.util.traceinfo", traceinfo),
    NativeRow::new("jit.util.traceir", traceir),
    NativeRow::new("jit.util.tracek", tracek),
    NativeRow::new("jit.util.tracemc", tracemc),
    NativeRow::new("jit.util.tracesnap", tracesnap),
];
const OPT_FNS: &[NativeRow] = &[NativeRow::new("jit.opt.start", opt_start)];
const V_FNS: &[NativeRow] = &[
    NativeRow::new("jit.v.start", v_start),
    NativeRow::new("jit.v.on", v_start),
    NativeRow::new("jit.v.off", v_off),
];

/// Puts the functions into the `jit` table, when that library is open.
pub fn open(vm: &mut Vm, shared: &Shared) {
    vm.app.set(shared.clone());
    let Some(t) = moonlit_vm::lib::jit::table(vm) else { return };
    vm.register(t, FNS);
    if vm.compat52 {
        vm.register(t, FNS52);
    }
    let opt = vm.heap.new_table(0, 1);
    vm.register(opt, OPT_FNS);
    let loaded = moonlit_vm::lib::base::loaded_table(vm);
    // Without room for an entry the module is missing, which `require` will say.
    let _ = t.set_bytes(&mut vm.heap, b"opt", Value::obj(opt));
    let _ = loaded.set_bytes(&mut vm.heap, b"jit.opt", Value::obj(opt));
    if let Some(util) = loaded.get_bytes(&vm.heap, b"jit.util").as_obj::<Table>() {
        vm.register(util, UTIL_FNS);
    }
    let v = vm.heap.new_table(0, 2);
    vm.register(v, V_FNS);
    let _ = loaded.set_bytes(&mut vm.heap, b"jit.v", Value::obj(v));
    crate::lib_dump::open(vm);
    vm.app.set(VmdefMore(vmdef));
}

/// What `jit.vmdef` tells about the compiler: names of IR instructions (`irnames`, six bytes each), and of the numbers that
/// stand in them: fields (`irfield`), functions of `FPMATH` (`irfpm`), helpers that code calls (`ircall`); texts
/// of aborts (`traceerr`).
fn vmdef(vm: &mut Vm, t: Gc<Table>) -> Result<(), Raised> {
    let fields: Vec<&str> = Field::ALL.iter().map(|f| f.name()).collect();
    let helpers: Vec<&str> = Helper::ALL.iter().map(|h| h.name()).collect();
    for (name, list) in
        [("irfield", &fields[..]), ("irfpm", fpm::NAMES), ("ircall", &helpers), ("traceerr", abort::TEXTS)]
    {
        let names = vm.heap.new_table(list.len() as u32 + 1, 0);
        let _ = t.set_bytes(&mut vm.heap, name.as_bytes(), Value::obj(names));
        for (i, n) in list.iter().enumerate() {
            let n = Value::obj(vm.heap.str(n.as_bytes()));
            // As below: without room an entry is missing.
            let _ = names.seti(&mut vm.heap, i as i64, n);
        }
    }
    let names: String = crate::ir::ops::IrOp::ALL.iter().map(|o| format!("{:<6}", o.name())).collect();
    let names = Value::obj(vm.heap.str(names.as_bytes()));
    let _ = t.set_bytes(&mut vm.heap, b"irnames", names);
    Ok(())
}

fn shared(vm: &Vm) -> Shared {
    vm.app.get::<Shared>().cloned().unwrap_or_default()
}

/// `jit.on([f|true [, inside]])`: without a function, the whole compiler.
fn on(vm: &mut Vm, _: Entry) -> NativeResult {
    switch(vm, true)
}

/// `jit.off([f|true [, inside]])`: nothing new is compiled; what is compiled stays in use, but for that of the
/// functions named.
fn off(vm: &mut Vm, _: Entry) -> NativeResult {
    switch(vm, false)
}

fn switch(vm: &mut Vm, on: bool) -> NativeResult {
    let target = target(vm, false)?;
    vm.abort_recording();
    match target {
        Target::Protos(p) => {
            set_nojit(vm, &p, !on);
            with_jit(vm, |jit, vm| match on {
                true => p.iter().for_each(|p| jit.allow_proto(vm, *p)),
                false => jit.flush_protos(vm, &p),
            });
        }
        _ => {
            shared(vm).change(|o| o.on = on);
            vm.set_jit_on(on);
        }
    }
    Ok(Outcome::none())
}

/// `jit.flush([f|true [, inside]])`, `jit.flush(trace)`: throws compiled code away: of functions, of a root trace with its
/// side traces (other numbers mean nothing), or all of it. It will be made again where it is needed.
fn flush(vm: &mut Vm, _: Entry) -> NativeResult {
    let target = target(vm, true)?;
    vm.abort_recording();
    with_jit(vm, |jit, vm| match target {
        Target::Whole => jit.flush(vm),
        Target::Trace(n) if n > 0 => jit.flush_trace(vm, TraceNo::new(n as u32)),
        Target::Trace(_) => {}
        Target::Protos(p) => jit.flush_protos(vm, &p),
    });
    Ok(Outcome::none())
}

/// Runs `f` with the compiler, which the machine does without meanwhile.
fn with_jit(vm: &mut Vm, f: impl FnOnce(&mut dyn JitHooks, &mut Vm)) {
    if let Some(mut jit) = vm.jit.take() {
        f(&mut *jit, vm);
        vm.jit = Some(jit);
    }
}

/// `jit.prngstate([state])`: state of the random numbers that spread attempts to compile, as eight 32-bit words, lower halves
/// first; an array of up to eight words, or the first word alone, replaces it. Raises `PRNG state must be an array with up
/// to 8 integers or an integer`.
fn prngstate(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = shared(vm);
    let old = s.1.get().0;
    let given = match vm.arg(0) {
        Value::NIL => None,
        v if v.is_num() => Some(vec![v]),
        _ => {
            let t = vm.check_tab(0)?;
            let n = t.len(&vm.heap).min(9) as i64;
            Some((1..=n).map(|i| t.geti(&vm.heap, i)).collect())
        }
    };
    if let Some(given) = given {
        let mut new = [0; 4];
        for (i, v) in given.iter().enumerate() {
            let word = v.as_num().filter(|n| f64::from(*n as u32) == *n && i < 8);
            let Some(n) = word else {
                return Err(
                    vm.arg_error(0, b"PRNG state must be an array with up to 8 integers or an integer")
                );
            };
            new[i / 2] |= u64::from(n as u32) << (i % 2 * 32);
        }
        s.1.set(Prng(new));
    }
    let t = vm.heap.new_table(9, 0);
    for i in 0..8 {
        let word = (old[i / 2] >> (i % 2 * 32)) as u32;
        // The array has the room.
        let _ = t.seti(&mut vm.heap, i as i64 + 1, Value::num(f64::from(word)));
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// `jit.util.traceinfo(n)`: a table about a trace; nothing if there is none.
fn traceinfo(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.check_int(0)?;
    let info = vm.jit.as_ref().filter(|_| n > 0).and_then(|j| j.trace_info(TraceNo::new(n as u32)));
    let Some(i) = info else { return Ok(Outcome::none()) };
    let t = vm.heap.new_table(0, 8);
    let kind = Value::obj(vm.heap.str(i.link_kind.as_bytes()));
    let number = |n: usize| Value::num(n as f64);
    for (name, v) in [
        ("nins", number(i.instructions)),
        ("nk", number(i.constants)),
        ("link", number(i.link as usize)),
        ("nexit", number(i.exits)),
        ("linktype", kind),
    ] {
        // A string is never refused as a key.
        let _ = t.set_bytes(&mut vm.heap, name.as_bytes(), v);
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// The compiler, and the trace that argument 0 names.
fn traced<T>(vm: &mut Vm, f: impl FnOnce(&dyn JitHooks, TraceNo) -> Option<T>) -> Result<Option<T>, Raised> {
    let n = vm.check_int(0)?;
    let jit = vm.jit.as_deref().filter(|_| n > 0);
    Ok(jit.and_then(|j| f(j, TraceNo::new(n as u32))))
}

/// `jit.util.traceir(trace, ref)`: kinds of the operands, operation and type, both operands, where the result is; nothing
/// if there is no such instruction.
fn traceir(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.check_int(0)?;
    let r = vm.check_int(1)?;
    let Some(i) = traced(vm, |j, no| j.trace_ins(no, r))? else { return Ok(Outcome::none()) };
    for n in [i.mode as i32, i.ot as i32, i.op1, i.op2, i.place as i32] {
        vm.push(Value::int(n));
    }
    Ok(Outcome::top(5))
}

/// `jit.util.tracek(trace, ref)`: a constant, its type, and the place of a key; nothing if there is none.
fn tracek(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.check_int(0)?;
    let r = vm.check_int(1)?;
    let Some(k) = traced(vm, |j, no| j.trace_const(no, r))? else { return Ok(Outcome::none()) };
    let (id, bits) = match k.value {
        TraceValue::Lua(v) => {
            vm.push(v);
            (0, 0)
        }
        TraceValue::Int64(n) => (ctid::INT64, n as u64),
        TraceValue::UInt64(n) => (ctid::UINT64, n),
    };
    if id != 0 {
        // Without the ffi no program could look at the object.
        let v = match vm.cdata.is_some() {
            true => Value::obj(vm.heap.new_int64(id, bits)),
            false if id == ctid::INT64 => Value::num(bits as i64 as f64),
            false => Value::num(bits as f64),
        };
        vm.push(v);
    }
    vm.push(Value::int(k.ty as i32));
    let Some(slot) = k.slot else { return Ok(Outcome::top(2)) };
    vm.push(Value::num(f64::from(slot)));
    Ok(Outcome::top(3))
}

/// `jit.util.tracesnap(trace, n)`: a snapshot as a list: `[0]` its first instruction, `[1]` the number of slots, then the
/// entries and a last one that is no slot's; nothing if there is none.
fn tracesnap(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.check_int(0)?;
    let n = vm.check_int(1)?;
    let snap = traced(vm, |j, no| j.trace_snap(no, usize::try_from(n).ok()?))?;
    let Some(mut list) = snap else { return Ok(Outcome::none()) };
    list.push(255 << 24);
    let t = vm.heap.new_table(list.len() as u32 + 1, 0);
    for (i, word) in list.into_iter().enumerate() {
        // The array has the room.
        let _ = t.seti(&mut vm.heap, i as i64, Value::int(word as i32));
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// `jit.util.tracemc(trace)`: machine code, its address, and where its loop begins (0: it has none); nothing if there is
/// no such trace or code.
fn tracemc(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.check_int(0)?;
    let mut code = None;
    if let Some(mut jit) = vm.jit.take() {
        code = jit.trace_code(vm, TraceNo::new(n.max(0) as u32));
        vm.jit = Some(jit);
    }
    let Some(code) = code else { return Ok(Outcome::none()) };
    let bytes = vm.heap.str(&code.bytes);
    vm.push(Value::obj(bytes));
    vm.push(Value::num(code.address as f64));
    vm.push(Value::num(code.looping as f64));
    Ok(Outcome::top(3))
}

/// `jit.util.traceexitstub(trace, exit)`: address that the code jumps to at an exit. Nothing for an exit alone: no stub is shared by
/// number.
fn traceexitstub(vm: &mut Vm, e: Entry) -> NativeResult {
    vm.check_int(0)?;
    if e.count() < 2 {
        return Ok(Outcome::none());
    }
    let n = vm.check_int(1)?;
    let address = traced(vm, |j, no| j.trace_exit(no, usize::try_from(n).ok()?))?;
    Ok(address.map_or(Outcome::none(), |a| Outcome::one(Value::num(a as f64))))
}

/// `jit.util.ircalladdr(n)`: address of helper `n`; nothing if there is none.
fn ircalladdr(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.check_int(0)?;
    let helper = usize::try_from(n).ok().and_then(|n| Helper::ALL.get(n));
    Ok(helper.map_or(Outcome::none(), |h| Outcome::one(Value::num(h.address() as f64))))
}

/// `jit.status()`: whether the compiler is on, then features of the processor and the enabled optimisations.
fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = shared(vm);
    let (on, names) = {
        let s = s.0.borrow();
        (s.0.on, cpu_features().chain(FLAG_NAMES.iter().copied().filter(|n| s.0.has(n))).collect::<Vec<_>>())
    };
    let mut n = 1;
    vm.push(Value::bool(on));
    for name in names {
        vm.ensure_slots(1)?;
        let v = vm.heap.str(name.as_bytes());
        vm.push(Value::obj(v));
        n += 1;
    }
    Ok(Outcome::top(n))
}

/// Features of this processor, in LuaJIT's words.
fn cpu_features() -> impl Iterator<Item = &'static str> {
    #[cfg(target_arch = "x86_64")]
    let all = [
        ("SSE3", std::arch::is_x86_feature_detected!("sse3")),
        ("SSE4.1", std::arch::is_x86_feature_detected!("sse4.1")),
        ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter(|f| f.1).map(|f| f.0)
}

/// `jit.opt.start(...)`; without a word, all optimisations. Raises `unknown or malformed optimization flag 'x'`.
fn opt_start(vm: &mut Vm, e: Entry) -> NativeResult {
    let s = shared(vm);
    if e.count() == 0 {
        s.change(|o| o.passes = Options::default().passes);
        return Ok(Outcome::none());
    }
    for i in 0..e.count() {
        let word = vm.check_str(i)?;
        let text = String::from_utf8_lossy(word.bytes(&vm.heap)).into_owned();
        if s.change(|o| o.set(&text)).is_err() {
            return Err(vm.throw_str(format!("unknown or malformed optimization flag '{text}'").as_bytes()));
        }
    }
    let count = s.0.borrow().0.hot_count();
    vm.hot.fill(count);
    Ok(Outcome::none())
}

/// The output file in argument `i`; none means standard error.
fn output(vm: &mut Vm, i: usize) -> String {
    match vm.arg(i).as_obj::<moonlit_vm::string::Str>() {
        Some(s) => String::from_utf8_lossy(s.bytes(&vm.heap)).into_owned(),
        None => String::new(),
    }
}

/// `jit.v.start([file])`: a line for each trace and abort: to that file, the one that LUAJIT_VERBOSEFILE names (`-`:
/// standard output), or standard error.
fn v_start(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut file = output(vm, 0);
    if file.is_empty() {
        file = std::env::var("LUAJIT_VERBOSEFILE").unwrap_or_default();
    }
    if !file.is_empty()
        && file != "-"
        && let Err(e) = std::fs::File::create(&file)
    {
        let reason = e.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        return Err(vm.throw_plain(format!("{file}: {reason}").as_bytes()));
    }
    shared(vm).change(|o| {
        o.verbose = true;
        o.output = file;
    });
    Ok(Outcome::none())
}

/// `jit.v.off()`.
fn v_off(vm: &mut Vm, _: Entry) -> NativeResult {
    shared(vm).change(|o| o.verbose = false);
    Ok(Outcome::none())
}
