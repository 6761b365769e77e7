//! The coroutine library. Resuming, wrapping and yielding are instructions of the interpreter.

use super::op_row;
use crate::bytecode::ops::Op;
use crate::heap::gc_ref::Gc;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use crate::thread::{Status, Thread};
use crate::value::{Value, tag};

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    NativeRow::new("coroutine.create", create),
    NativeRow::new("coroutine.isyieldable", isyieldable),
    op_row("coroutine.resume", Op::FUNCRESUME),
    NativeRow::new("coroutine.running", running),
    NativeRow::new("coroutine.status", status),
    NativeRow::new("coroutine.wrap", wrap),
    op_row("coroutine.yield", Op::FUNCYIELD),
];

/// The function `wrap` returns; its upvalue is the coroutine.
const WRAP_AUX: NativeRow = op_row("coroutine.wrap_aux", Op::FUNCWRAP);

/// Opens the library.
pub fn open(vm: &mut Vm) {
    let t = super::new_library(vm, "coroutine", FNS);
    let aux = vm.new_native(WRAP_AUX, &[Value::NIL]);
    super::give_upvalues(vm, t, "wrap", &[Value::obj(aux)]);
    super::set_preload(vm, "thread.exdata", NativeRow::new("thread.load_exdata", load_exdata));
    super::set_preload(vm, "thread.exdata2", NativeRow::new("thread.load_exdata2", load_exdata2));
}

fn check_coroutine(vm: &mut Vm) -> Result<Gc<Thread>, Raised> {
    match vm.arg(0).as_obj::<Thread>() {
        Some(t) => Ok(t),
        None => Err(vm.arg_error(0, b"coroutine expected")),
    }
}

/// `coroutine.create(f)`.
fn create(vm: &mut Vm, _: Entry) -> NativeResult {
    let f = vm.check_func(0)?;
    let t = vm.new_coroutine(Value::obj(f));
    Ok(Outcome::one(Value::obj(t)))
}

/// `coroutine.wrap(f)`: a function that resumes and raises what goes wrong.
fn wrap(vm: &mut Vm, _: Entry) -> NativeResult {
    let f = vm.check_func(0)?;
    let t = vm.new_coroutine(Value::obj(f));
    let aux = vm.upvalue(0).as_obj::<crate::function::closure::Func>();
    let id = aux.and_then(|f| f.as_native(&vm.heap)).map(|f| f.get(&vm.heap).id);
    let Some(id) = id else { return Err(vm.throw_plain(b"'wrap' has lost its helper")) };
    Ok(Outcome::one(Value::obj(vm.native_func(id, &[Value::obj(t)]))))
}

/// `coroutine.status(co)`: `suspended`, `running`, `normal` or `dead`.
fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = check_coroutine(vm)?;
    let text: &[u8] = match t.get(&vm.heap).status() {
        _ if t == vm.cur => b"running",
        Status::Suspended => b"suspended",
        Status::Running => b"running",
        Status::Normal => b"normal",
        Status::Dead => b"dead",
    };
    Ok(Outcome::one(Value::obj(vm.heap.str(text))))
}

/// `coroutine.running()`: nil in the main coroutine; in 5.2 mode the coroutine and whether it is the main one.
fn running(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.cur;
    let is_main = t == vm.main;
    if vm.compat52 {
        vm.push(Value::obj(t));
        vm.push(Value::bool(is_main));
        return Ok(Outcome::top(2));
    }
    Ok(Outcome::one(if is_main { Value::NIL } else { Value::obj(t) }))
}

/// `coroutine.isyieldable()`.
fn isyieldable(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.cur;
    let yes = t != vm.main && t.get(&vm.heap).nruns == 0;
    Ok(Outcome::one(Value::bool(yes)))
}

/// Modules that are one function each.
pub const MODULES: &[NativeRow] =
    &[NativeRow::new("thread.exdata", exdata), NativeRow::new("thread.exdata2", exdata2)];

/// Loader of `thread.exdata`.
fn load_exdata(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::obj(vm.new_native(MODULES[0], &[]))))
}

/// Loader of `thread.exdata2`.
fn load_exdata2(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::obj(vm.new_native(MODULES[1], &[]))))
}

/// A word of host data of the running coroutine: returned as `void *`, or set to the pointer or 64-bit integer given.
fn host_word(vm: &mut Vm, e: Entry, word: fn(&mut Thread) -> &mut u64) -> NativeResult {
    if vm.cdata.is_none() {
        return Err(vm.throw_str(b"host data of coroutines needs the ffi library"));
    }
    let cur = vm.cur;
    if e.count() == 0 {
        let addr = *word(cur.get_mut(&mut vm.heap));
        let cd = vm.heap.new_int64(crate::cdata::ctid::P_VOID, addr);
        return Ok(Outcome::one(Value::obj(cd)));
    }
    let v = vm.arg(0);
    let hooks = vm.cdata.as_ref().filter(|_| v.tag() == tag::CDATA);
    match hooks.and_then(|h| h.to_pointer(vm, v).or_else(|| h.to_bits64(vm, v).map(|b| b.0))) {
        Some(addr) => {
            *word(cur.get_mut(&mut vm.heap)) = addr;
            Ok(Outcome::none())
        }
        None => Err(vm.type_error(0, "cdata")),
    }
}

/// `thread.exdata([pointer])`: host data of the running coroutine; new coroutines inherit it.
fn exdata(vm: &mut Vm, e: Entry) -> NativeResult {
    host_word(vm, e, |t| &mut t.exdata)
}

/// `thread.exdata2([pointer])`: the second word.
fn exdata2(vm: &mut Vm, e: Entry) -> NativeResult {
    host_word(vm, e, |t| &mut t.exdata2)
}
