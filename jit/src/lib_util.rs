//! What Lua sees of the JIT: `jit.on`, `jit.off`, `jit.status`, `jit.opt.start`, modules `jit.v` and `jit.dump`. They replace the functions the
//! VM's own library has for a machine without a compiler.

use crate::options::{FLAG_NAMES, Options};
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::function::proto::{Proto, protoflags};
use moonlit_vm::state::Vm;
use moonlit_vm::state::native::{Entry, NativeResult, NativeRow, Outcome};
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;
use std::cell::RefCell;
use std::rc::Rc;

/// Options shared between the engine and the library. The number grows with each change.
#[derive(Clone, Debug, Default)]
pub struct Shared(pub Rc<RefCell<(Options, u64)>>);

impl Shared {
    /// Changes the options.
    pub fn change<T>(&self, f: impl FnOnce(&mut Options) -> T) -> T {
        let mut s = self.0.borrow_mut();
        s.1 += 1;
        f(&mut s.0)
    }
}

const FNS: &[NativeRow] =
    &[NativeRow::new("jit.on", on), NativeRow::new("jit.off", off), NativeRow::new("jit.status", status)];
const OPT_FNS: &[NativeRow] = &[NativeRow::new("jit.opt.start", opt_start)];
const V_FNS: &[NativeRow] = &[
    NativeRow::new("jit.v.start", v_start),
    NativeRow::new("jit.v.on", v_start),
    NativeRow::new("jit.v.off", report_off),
];
const DUMP_FNS: &[NativeRow] = &[
    NativeRow::new("jit.dump.start", dump_start),
    NativeRow::new("jit.dump.on", dump_start),
    NativeRow::new("jit.dump.off", report_off),
];

/// Puts the functions into the `jit` table, when that library is open.
pub fn open(vm: &mut Vm, shared: &Shared) {
    vm.app.set(shared.clone());
    let Some(t) = moonlit_vm::lib::jit::table(vm) else { return };
    vm.register(t, FNS);
    if let Some(opt) = t.get_bytes(&vm.heap, b"opt").as_obj::<Table>() {
        vm.register(opt, OPT_FNS);
    }
    let loaded = vm
        .globals
        .get_bytes(&vm.heap, b"package")
        .as_obj::<Table>()
        .and_then(|p| p.get_bytes(&vm.heap, b"loaded").as_obj::<Table>());
    for (name, rows) in [("jit.v", V_FNS), ("jit.dump", DUMP_FNS)] {
        let m = vm.heap.new_table(0, 2);
        vm.register(m, rows);
        if let Some(l) = loaded {
            // Without room for the entry the module is missing, which `require` will say.
            let _ = l.set_bytes(&mut vm.heap, name.as_bytes(), Value::obj(m));
        }
    }
}

fn shared(vm: &Vm) -> Shared {
    vm.app.get::<Shared>().cloned().unwrap_or_default()
}

fn set_proto(vm: &mut Vm, p: Gc<Proto>, on: bool, recursive: bool) {
    let flags = &mut p.get_mut(&mut vm.heap).flags;
    *flags = if on { *flags & !protoflags::NOJIT } else { *flags | protoflags::NOJIT };
    if !recursive {
        return;
    }
    let n = p.get(&vm.heap).nkgc;
    for i in 0..n {
        if let Some(c) = p.get(&vm.heap).kgc(i).and_then(|v| v.as_obj::<Proto>()) {
            set_proto(vm, c, on, true);
        }
    }
}

/// `jit.on([f|true [, recursive]])`: without a function, the whole compiler.
fn on(vm: &mut Vm, _: Entry) -> NativeResult {
    switch(vm, true)
}

/// `jit.off([f|true [, recursive]])`.
fn off(vm: &mut Vm, _: Entry) -> NativeResult {
    switch(vm, false)
}

fn switch(vm: &mut Vm, on: bool) -> NativeResult {
    let Some(v) = vm.arg_opt(0) else {
        shared(vm).change(|o| o.on = on);
        vm.set_jit_on(on);
        return Ok(Outcome::none());
    };
    let recursive = vm.arg(1).truthy();
    let func = match v.as_obj::<Func>() {
        Some(f) => f.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto),
        // `true` means the calling function.
        None if v.0 == Value::TRUE.0 => vm.frame_at(vm.cur, 1).and_then(|f| vm.frame_proto(f)),
        None => {
            vm.check_func(0)?;
            None
        }
    };
    if let Some(p) = func {
        set_proto(vm, p, on, recursive);
    }
    Ok(Outcome::none())
}

/// `jit.status()`: whether the compiler is on, then the names of the enabled optimisations.
fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    let s = shared(vm);
    let (on, names) = {
        let s = s.0.borrow();
        (s.0.on, FLAG_NAMES.iter().copied().filter(|n| s.0.has(n)).collect::<Vec<_>>())
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

/// `jit.opt.start(...)`. Raises `unknown or malformed optimization flag 'x'`.
fn opt_start(vm: &mut Vm, e: Entry) -> NativeResult {
    let s = shared(vm);
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

/// `jit.v.start([file])`: a line for each trace and abort.
fn v_start(vm: &mut Vm, _: Entry) -> NativeResult {
    let file = output(vm, 0);
    shared(vm).change(|o| {
        o.verbose = true;
        o.output = file;
    });
    Ok(Outcome::none())
}

/// `jit.dump.start([what [, file]])`: the IR of each trace; `what` is accepted and not looked at.
fn dump_start(vm: &mut Vm, _: Entry) -> NativeResult {
    let file = output(vm, 1);
    shared(vm).change(|o| {
        o.verbose = true;
        o.dump = true;
        o.output = file;
    });
    Ok(Outcome::none())
}

/// `jit.v.off()`, `jit.dump.off()`.
fn report_off(vm: &mut Vm, _: Entry) -> NativeResult {
    shared(vm).change(|o| {
        o.verbose = false;
        o.dump = false;
    });
    Ok(Outcome::none())
}
