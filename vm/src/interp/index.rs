//! Table access beyond the fast path: `__index`, `__newindex`, new keys, constructors.

use super::arith::with_cdata;
use super::dispatch::{HelperResult, NEXT, enter_func, helper, next, resume, tail};
use super::meta::{call_meta, current_ins, knum, kstr, reg, set_reg};
use crate::bytecode::ops::{Mm, Op};
use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::error::messages as msg;
use crate::function::closure::Func;
use crate::limits::META_LOOP_MAX;
use crate::state::Vm;
use crate::state::native::Raised;
use crate::table::{Table, TableErr};
use crate::thread::frame::Cont;
use crate::value::{Value, tag};

helper!(get_slow = get);
helper!(set_slow = set);
helper!(
    #[cold]
    raw_get = get_raw
);
helper!(
    #[cold]
    raw_set = set_raw
);
helper!(set_multi = set_range);
helper!(new_table = make_table);
helper!(dup_table = copy_table);

/// The back barrier for the table at `t`; then the next instruction.
#[cold]
#[inline(never)]
pub(crate) unsafe extern "C" fn table_barrier(
    pc: *const u32,
    base: *mut Value,
    k: *const Value,
    vm: *mut Vm,
    t: usize,
    _d: usize,
) -> usize {
    // SAFETY: the handler passes the table it has just written to.
    unsafe {
        barrier(vm, t as *mut Header);
        next!(pc, base, k, vm)
    }
}

/// Runs the barrier out of line.
///
/// # Safety
/// `o` is a live object of the VM's heap.
#[inline(never)]
pub(crate) unsafe extern "C" fn barrier(vm: *mut Vm, o: *mut Header) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(h) = Gc::<Header>::from_addr(o as u64) {
            (*vm).heap.barrier_back(h);
        }
    }
}

/// What a lookup through metatables ends with.
pub(crate) enum Found {
    /// The value.
    Value(Value),
    /// Call this handler with the object it was found for, and the key.
    Call(Value, Value),
}

/// `o[key]` with `__index` chains of tables followed. Errors name `slot` when given.
pub(crate) fn lookup(vm: &mut Vm, o: Value, key: Value, slot: Option<u32>) -> Result<Found, Raised> {
    let mut at = o;
    for i in 0..META_LOOP_MAX {
        let f;
        if let Some(t) = at.as_obj::<Table>() {
            let v = t.getv(&vm.heap, key);
            if !v.is_nil() {
                return Ok(Found::Value(v));
            }
            match t.get(&vm.heap).meta {
                None => return Ok(Found::Value(v)),
                Some(mt) => f = vm.meta_field(mt, Mm::Index),
            }
            if f.is_nil() {
                return Ok(Found::Value(f));
            }
        } else {
            f = vm.metamethod(at, Mm::Index);
            if f.is_nil() {
                return Err(vm.operand_error(msg::OP_INDEX, at, if i == 0 { slot } else { None }));
            }
        }
        if f.is::<Func>() {
            return Ok(Found::Call(f, at));
        }
        at = f;
    }
    Err(vm.throw_here(msg::LOOP_GET.as_bytes()))
}

/// `o[key] = v` with `__newindex` chains of tables followed: `None` when the store is done, else the handler to
/// call and the object it was found for.
pub(crate) fn store(
    vm: &mut Vm,
    o: Value,
    key: Value,
    v: Value,
    slot: Option<u32>,
) -> Result<Option<(Value, Value)>, Raised> {
    let mut at = o;
    for i in 0..META_LOOP_MAX {
        let f;
        if let Some(t) = at.as_obj::<Table>() {
            let meta = t.get(&vm.heap).meta;
            let handler = match meta {
                None => Value::NIL,
                Some(mt) => vm.meta_field(mt, Mm::Newindex),
            };
            if handler.is_nil() || !t.getv(&vm.heap, key).is_nil() {
                t.setv(&mut vm.heap, key, v).map_err(|e| vm.raise_table(e))?;
                return Ok(None);
            }
            f = handler;
        } else {
            f = vm.metamethod(at, Mm::Newindex);
            if f.is_nil() {
                return Err(vm.operand_error(msg::OP_INDEX, at, if i == 0 { slot } else { None }));
            }
        }
        if f.is::<Func>() {
            return Ok(Some((f, at)));
        }
        at = f;
    }
    Err(vm.throw_here(msg::LOOP_SET.as_bytes()))
}

impl Vm {
    /// A refused table store, as an error.
    pub fn raise_table(&mut self, e: TableErr) -> Raised {
        let text = match e {
            TableErr::NilIndex => msg::INDEX_NIL,
            TableErr::NanIndex => msg::INDEX_NAN,
            TableErr::Overflow => msg::TABLE_OVERFLOW,
            TableErr::Memory => return self.throw_memory(),
        };
        self.throw_here(text.as_bytes())
    }
}

/// Object and key of an index instruction, and the object's register.
fn operands(vm: &Vm, d: usize) -> (Value, Value, Option<u32>) {
    let ins = current_ins(vm);
    let o = |vm: &Vm| reg(vm, d >> 8);
    let slot = Some((d >> 8) as u32);
    match ins.op() {
        Op::GGET | Op::GSET => {
            let f = vm.running_func().expect("an instruction runs in a function");
            (Value::obj(f.get(&vm.heap).env), kstr(vm, d), None)
        }
        Op::TGETS | Op::TSETS => (o(vm), kstr(vm, d & 0xff), slot),
        Op::TGETB | Op::TSETB => (o(vm), Value::int((d & 0xff) as i32), slot),
        _ => (o(vm), reg(vm, d & 0xff), slot),
    }
}

fn get(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let (o, key, slot) = operands(vm, d);
    if o.tag() == tag::CDATA {
        let mut v = super::cdata::boxed(vm, o, key);
        if v.is_none() {
            v = with_cdata(vm, |hooks, vm| hooks.index(vm, o, key)).flatten();
        }
        if let Some(v) = v {
            set_reg(vm, a, v);
            vm.gc_check()?;
            return Ok(NEXT);
        }
    }
    match lookup(vm, o, key, slot)? {
        Found::Value(v) => {
            set_reg(vm, a, v);
            Ok(NEXT)
        }
        Found::Call(f, at) => call_meta(vm, Cont::Ra as u64, f, &[at, key]),
    }
}

fn set(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let (o, key, slot) = operands(vm, d);
    let v = reg(vm, a);
    if o.tag() == tag::CDATA && with_cdata(vm, |hooks, vm| hooks.newindex(vm, o, key, v)) == Some(true) {
        return Ok(NEXT);
    }
    if let Some((f, at)) = store(vm, o, key, v, slot)? {
        return call_meta(vm, Cont::Nop as u64, f, &[at, key, v]);
    }
    vm.gc_check()?;
    Ok(NEXT)
}

fn get_raw(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let v = match reg(vm, d >> 8).as_obj::<Table>() {
        Some(t) => t.getv(&vm.heap, reg(vm, d & 0xff)),
        None => Value::NIL,
    };
    set_reg(vm, a, v);
    Ok(NEXT)
}

fn set_raw(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let (key, v) = (reg(vm, d & 0xff), reg(vm, a));
    if let Some(t) = reg(vm, d >> 8).as_obj::<Table>() {
        t.setv(&mut vm.heap, key, v).map_err(|e| vm.raise_table(e))?;
    }
    Ok(NEXT)
}

/// `TSETM`: the values from register `a` on go to the table in `a - 1`, starting at the integer in the low word
/// of a number constant.
fn set_range(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let Some(t) = reg(vm, a - 1).as_obj::<Table>() else { return Ok(NEXT) };
    let first = knum(vm, d).0 as u32 as i64;
    let n = vm.multres as usize - 1;
    if n > 0 {
        let end = first as usize + n;
        t.reserve_array(&mut vm.heap, end as u32).map_err(|e| vm.raise_table(e))?;
        for i in 0..n {
            let v = reg(vm, a + i);
            t.seti(&mut vm.heap, first + i as i64, v).map_err(|e| vm.raise_table(e))?;
        }
    }
    Ok(NEXT)
}

fn make_table(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    vm.gc_check()?;
    let mut asize = (d & 0x7ff) as u32;
    if asize == 0x7ff {
        asize = 0x801;
    }
    let t = vm.heap.new_table(asize, (d >> 11) as u32);
    set_reg(vm, a, Value::obj(t));
    Ok(NEXT)
}

fn copy_table(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    vm.gc_check()?;
    let Some(t) = kstr(vm, d).as_obj::<Table>() else { return Ok(NEXT) };
    let new = vm.heap.dup_table(t);
    set_reg(vm, a, Value::obj(new));
    Ok(NEXT)
}
