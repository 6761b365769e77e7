//! Arithmetic that is not on two numbers, `#`, `..`, `^`.

use super::dispatch::{HelperResult, NEXT, enter_func, helper, next, resume, tail};
use super::handlers::arith::modulo;
use super::meta::{call_meta, current_ins, knum, reg, set_reg, sync_top};
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::{Mm, Mode, Op};
use crate::cell::gc_ref::Gc;
use crate::error::messages as msg;
use crate::limits::STR_LEN_MAX;
use crate::state::Vm;
use crate::state::hooks::CdataHooks;
use crate::string::Str;
use crate::string::intern::append;
use crate::table::Table;
use crate::thread::frame::Cont;
use crate::value::{Value, number, tag};

helper!(
    #[cold]
    arith_slow = arith
);
helper!(
    #[cold]
    bit_slow = bits
);
helper!(
    #[cold]
    unm_slow = unm
);
helper!(len_slow = len);
helper!(concat = cat);

/// One of the six arithmetic operations, as a function of numbers.
pub(crate) fn compute(mm: Mm, a: f64, b: f64) -> f64 {
    match mm {
        Mm::Add => a + b,
        Mm::Sub => a - b,
        Mm::Mul => a * b,
        Mm::Div => a / b,
        Mm::Mod => modulo(a, b),
        Mm::Pow => a.powf(b),
        _ => -a,
    }
}

/// Operands of a binary instruction, left one first, and the register of each that is in one.
fn operands(vm: &Vm, ins: Instr) -> [(Value, Option<u32>); 2] {
    let b = (reg(vm, ins.b() as usize), Some(ins.b()));
    if ins.op().info().cd == Mode::Num {
        let c = (knum(vm, ins.c() as usize), None);
        if matches!(ins.op(), Op::ADDNV | Op::SUBNV | Op::MULNV | Op::DIVNV | Op::MODNV) {
            [c, b]
        } else {
            [b, c]
        }
    } else {
        [b, (reg(vm, ins.c() as usize), Some(ins.c()))]
    }
}

fn arith(vm: &mut Vm, a: usize, _d: usize) -> HelperResult {
    let ins = current_ins(vm);
    let mm = ins.op().info().mm;
    let [l, r] = operands(vm, ins);
    if let (Some(x), Some(y)) = (vm.to_number(l.0), vm.to_number(r.0)) {
        set_reg(vm, a, Value::num(compute(mm, x, y)));
        return Ok(NEXT);
    }
    if let Some(v) = on_cdata(vm, mm, l.0, r.0) {
        set_reg(vm, a, v);
        vm.gc_check()?;
        return Ok(NEXT);
    }
    binary_meta(vm, mm, l, r)
}

/// Lets the ffi work on the VM. `None` if there is no ffi.
#[inline]
pub(crate) fn with_cdata<R>(vm: &mut Vm, f: impl FnOnce(&dyn CdataHooks, &mut Vm) -> R) -> Option<R> {
    let hooks = vm.cdata.take()?;
    let r = f(&*hooks, vm);
    vm.cdata = Some(hooks);
    Some(r)
}

/// Arithmetic that the ffi does without a metatype.
pub(crate) fn on_cdata(vm: &mut Vm, mm: Mm, l: Value, r: Value) -> Option<Value> {
    if l.tag() != tag::CDATA && r.tag() != tag::CDATA {
        return None;
    }
    let done = match mm {
        Mm::Add | Mm::Sub | Mm::Mul => super::cdata::int64_arith(vm, mm, l, r),
        Mm::Lt | Mm::Le | Mm::Eq => super::cdata::int64_compare(vm, mm, l, r).map(Value::bool),
        _ => None,
    };
    if done.is_some() {
        return done;
    }
    with_cdata(vm, |hooks, vm| hooks.arith(vm, mm, l, r))?
}

/// The function of a metatype for an operation; nil if neither operand is cdata or there is none.
fn cdata_handler(vm: &mut Vm, mm: Mm, l: Value, r: Value) -> Value {
    if l.tag() != tag::CDATA && r.tag() != tag::CDATA {
        return Value::NIL;
    }
    with_cdata(vm, |hooks, vm| hooks.handler(vm, mm, l, r)).unwrap_or(Value::NIL)
}

fn binary_meta(vm: &mut Vm, mm: Mm, l: (Value, Option<u32>), r: (Value, Option<u32>)) -> HelperResult {
    let mut f = cdata_handler(vm, mm, l.0, r.0);
    if f.is_nil() {
        f = vm.metamethod(l.0, mm);
    }
    if f.is_nil() {
        f = vm.metamethod(r.0, mm);
    }
    if f.is_nil() {
        let (v, slot) = if vm.to_number(l.0).is_none() { l } else { r };
        return Err(vm.operand_error(msg::OP_ARITH, v, slot));
    }
    call_meta(vm, Cont::Ra as u64, f, &[l.0, r.0])
}

fn unm(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let v = reg(vm, d);
    if let Some(n) = vm.to_number(v) {
        set_reg(vm, a, Value::num(-n));
        return Ok(NEXT);
    }
    if let Some(n) = on_cdata(vm, Mm::Unm, v, v) {
        set_reg(vm, a, n);
        vm.gc_check()?;
        return Ok(NEXT);
    }
    let f = vm.metamethod(v, Mm::Unm);
    if f.is_nil() {
        return Err(vm.operand_error(msg::OP_ARITH, v, Some(d as u32)));
    }
    call_meta(vm, Cont::Ra as u64, f, &[v, v])
}

fn bits(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let ins = current_ins(vm);
    let op = ins.op();
    let (l, r) = if op == Op::BNOT {
        ((reg(vm, d), Some(d as u32)), (reg(vm, d), Some(d as u32)))
    } else {
        let b = (reg(vm, d >> 8), Some(ins.b()));
        (b, (reg(vm, d & 0xff), Some(ins.c())))
    };
    let (wl, wr) = (bits_of(vm, l.0), bits_of(vm, r.0));
    let (Some(x), Some(y)) = (wl, wr) else {
        let (v, slot) = if wl.is_none() { l } else { r };
        return Err(vm.operand_error(msg::OP_ARITH, v, slot));
    };
    // At least one operand is a 64-bit integer: so is the result, unsigned when one operand is.
    let shift = matches!(op, Op::BSHL | Op::BSHR | Op::BSAR);
    if shift && !x.wide {
        let n = y.bits as u32;
        let v = x.bits as i32;
        let n = match op {
            Op::BSHL => v.wrapping_shl(n),
            Op::BSHR => (v as u32).wrapping_shr(n) as i32,
            _ => v.wrapping_shr(n),
        };
        set_reg(vm, a, Value::int(n));
        return Ok(NEXT);
    }
    let n = match op {
        Op::BAND => x.bits & y.bits,
        Op::BOR => x.bits | y.bits,
        Op::BXOR => x.bits ^ y.bits,
        Op::BSHL => x.bits.wrapping_shl(y.bits as u32),
        Op::BSHR => x.bits.wrapping_shr(y.bits as u32),
        Op::BSAR => (x.bits as i64).wrapping_shr(y.bits as u32) as u64,
        _ => !x.bits,
    };
    let unsigned = x.unsigned || (!shift && y.unsigned);
    let id = if unsigned { crate::cdata::ctid::UINT64 } else { crate::cdata::ctid::INT64 };
    let cd = vm.heap.new_cdata(id, 8, 8);
    let p = cd.get(&vm.heap).data_ptr() as *mut u64;
    // SAFETY: the payload has eight bytes and is aligned to eight.
    unsafe { *p = n };
    set_reg(vm, a, Value::obj(cd));
    vm.gc_check()?;
    Ok(NEXT)
}

/// An operand of a bit operation.
#[derive(Clone, Copy)]
struct Bits {
    bits: u64,
    wide: bool,
    unsigned: bool,
}

fn bits_of(vm: &Vm, v: Value) -> Option<Bits> {
    if let Some(n) = v.as_num() {
        return Some(Bits { bits: number::to_bit(n) as i64 as u64, wide: false, unsigned: false });
    }
    if v.tag() != tag::CDATA {
        return None;
    }
    let (bits, unsigned) = vm.cdata.as_ref()?.to_bits64(vm, v)?;
    Some(Bits { bits, wide: true, unsigned })
}

fn len(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let v = reg(vm, d);
    if let Some(t) = v.as_obj::<Table>() {
        if vm.compat52 && t.get(&vm.heap).meta.is_some() {
            let f = vm.metamethod(v, Mm::Len);
            if !f.is_nil() {
                return call_meta(vm, Cont::Ra as u64, f, &[v, v]);
            }
        }
        let n = t.len(&vm.heap);
        set_reg(vm, a, Value::num_trusted(n as f64));
        return Ok(NEXT);
    }
    if let Some(s) = v.as_obj::<Str>() {
        let n = s.get(&vm.heap).len;
        set_reg(vm, a, Value::num_trusted(n as f64));
        return Ok(NEXT);
    }
    let f = vm.metamethod(v, Mm::Len);
    if f.is_nil() {
        return Err(vm.operand_error(msg::OP_LEN, v, Some(d as u32)));
    }
    let second = if vm.compat52 { v } else { Value::NIL };
    call_meta(vm, Cont::Ra as u64, f, &[v, second])
}

fn cat(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    cat_range(vm, d >> 8, d & 0xff)
}

#[inline(always)]
fn is_text(v: Value) -> bool {
    v.is_num() || v.tag() == tag::STR
}

/// What joins two values of which at least one is an object that `..` takes for text, or nil.
fn joined(vm: &Vm, l: Value, r: Value) -> Value {
    let Some(j) = vm.joined else { return Value::NIL };
    let joins = |v: Value| is_text(v) || v.tag() == tag::UDATA && (j.is)(vm, v);
    if joins(l) && joins(r) { j.concat } else { Value::NIL }
}

/// Concatenates the registers `first..=last` and stores the result as the instruction says. Also entered again
/// after a `__concat` handler, with its result in `last`.
pub(crate) fn cat_range(vm: &mut Vm, first: usize, mut last: usize) -> HelperResult {
    // Nothing but strings, and not too much of them: the usual case.
    // SAFETY: operands lie inside the frame, see `op!`; making a string neither moves the stack nor writes to it.
    let parts = unsafe { std::slice::from_raw_parts(vm.base().add(first), last - first + 1) };
    let mut total = 0;
    let strings = parts.iter().all(|v| {
        v.as_obj::<Str>().is_some_and(|s| {
            total += s.get(&vm.heap).len as usize;
            true
        })
    });
    if strings && total <= CAT_UNASKED {
        let s = vm.heap.str_join(parts, total);
        let a = current_ins(vm).a() as usize;
        set_reg(vm, a, Value::obj(s));
        vm.gc_check()?;
        return Ok(NEXT);
    }
    while last > first {
        let (l, r) = (reg(vm, last - 1), reg(vm, last));
        if !(is_text(l) && is_text(r)) {
            let mut f = joined(vm, l, r);
            if f.is_nil() {
                f = vm.metamethod(l, Mm::Concat);
            }
            if f.is_nil() {
                f = vm.metamethod(r, Mm::Concat);
            }
            if f.is_nil() {
                let (v, slot) = if is_text(l) { (r, last) } else { (l, last - 1) };
                return Err(vm.operand_error(msg::OP_CONCAT, v, Some(slot as u32)));
            }
            return call_meta(vm, Cont::Cat as u64 | ((last - 1) as u64) << 8, f, &[l, r]);
        }
        let mut from = last - 1;
        while from > first && is_text(reg(vm, from - 1)) {
            from -= 1;
        }
        let s = join(vm, from, last)?;
        set_reg(vm, from, s);
        last = from;
    }
    let a = current_ins(vm).a() as usize;
    let v = reg(vm, first);
    set_reg(vm, a, v);
    vm.gc_check()?;
    Ok(NEXT)
}

/// One string of the strings and numbers in registers `from..=last`.
fn join(vm: &mut Vm, from: usize, last: usize) -> Result<Value, crate::state::native::Raised> {
    let mut total = 0;
    let mut numbers = false;
    for i in from..=last {
        match reg(vm, i).as_obj::<Str>() {
            Some(s) => total += s.get(&vm.heap).len as usize,
            None => numbers = true,
        }
        if total > STR_LEN_MAX {
            return Err(vm.throw_here(msg::STRING_OVERFLOW.as_bytes()));
        }
    }
    if total > CAT_UNASKED {
        sync_top(vm);
        vm.make_room(2 * total)?;
    }
    // SAFETY: operands lie inside the frame, see `op!`; nothing below moves the stack or writes to it.
    let parts = unsafe { std::slice::from_raw_parts(vm.base().add(from), last - from + 1) };
    if !numbers {
        return Ok(Value::obj(vm.heap.str_join(parts, total)));
    }
    match join_with_numbers(vm, parts, total) {
        Some(s) => Ok(Value::obj(s)),
        None => Err(vm.throw_here(msg::STRING_OVERFLOW.as_bytes())),
    }
}

/// One string of strings, `total` bytes, and numbers; `None` if it would be too long.
fn join_with_numbers(vm: &mut Vm, parts: &[Value], total: usize) -> Option<Gc<Str>> {
    let mut buf = std::mem::take(&mut vm.cat_buf);
    buf.clear();
    buf.reserve(total + NUMBER_ROOM * parts.len());
    for &v in parts {
        match v.as_obj::<Str>() {
            Some(s) => append(&mut buf, s.bytes(&vm.heap)),
            None => number::write_number(v.num_unchecked(), &mut buf),
        }
    }
    let s = (buf.len() <= STR_LEN_MAX).then(|| vm.heap.str(&buf));
    vm.keep_buffer(buf);
    s
}

/// One string of strings and numbers, for compiled code; `None` if the interpreter has to look at it, because there may be no
/// room.
pub fn join_from_trace(vm: &mut Vm, parts: &[Value]) -> Option<Gc<Str>> {
    let strings = parts.iter().filter_map(|v| v.as_obj::<Str>());
    let total = strings.map(|s| s.get(&vm.heap).len as usize).sum::<usize>();
    if total > CAT_UNASKED && (total > STR_LEN_MAX || vm.heap.may_alloc(2 * total).is_err()) {
        return None;
    }
    if parts.iter().any(|v| v.is_num()) {
        return join_with_numbers(vm, parts, total);
    }
    Some(vm.heap.str_join(parts, total))
}

/// Bytes of a result up to which the heap is not asked for room first.
const CAT_UNASKED: usize = 1 << 16;
/// Bytes that a number's text takes, about.
const NUMBER_ROOM: usize = 24;
