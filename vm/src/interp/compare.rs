//! Comparisons that are not between two numbers: strings, `__eq`, `__lt`, `__le`.

use super::arith::on_cdata;
use super::dispatch::{Act, HelperResult, NEXT, enter_func, helper, next, resume, tail};
use super::meta::{call_meta, current_ins, knum, kstr, reg};
use crate::bytecode::instr::{BCBIAS_J, Instr};
use crate::bytecode::ops::{Mm, Op};
use crate::state::Vm;
use crate::string::Str;
use crate::thread::frame::Cont;
use crate::value::{Value, tag};

helper!(
    #[cold]
    comp_slow = comp
);
helper!(
    #[cold]
    eq_slow = eq_regs
);
helper!(
    #[cold]
    eqk_slow = eq_const
);
helper!(
    #[cold]
    type_slow = type_mismatch
);

/// Takes the jump behind the comparison, or skips it.
pub(crate) fn branch(vm: &mut Vm, taken: bool) -> Act {
    // SAFETY: a comparison is always followed by its JMP.
    let jmp = Instr(unsafe { *vm.pc });
    let delta = if taken { jmp.d() as isize - BCBIAS_J as isize } else { 0 };
    vm.pc = vm.pc.wrapping_offset(1 + delta);
    NEXT
}

fn comp(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let op = current_ins(vm).op();
    let (x, y) = (reg(vm, a), reg(vm, d));
    let negate = matches!(op, Op::ISGE | Op::ISGT);
    let le = matches!(op, Op::ISLE | Op::ISGT);
    if let (Some(l), Some(r)) = (x.as_obj::<Str>(), y.as_obj::<Str>()) {
        let ord = l.bytes(&vm.heap).cmp(r.bytes(&vm.heap));
        let holds = if le { ord.is_le() } else { ord.is_lt() };
        return Ok(branch(vm, holds != negate));
    }
    compare_meta(vm, x, y, le, negate)
}

/// The metamethod part of a comparison.
fn compare_meta(vm: &mut Vm, x: Value, y: Value, le: bool, negate: bool) -> HelperResult {
    let cdata = x.tag() == tag::CDATA || y.tag() == tag::CDATA;
    let same = x.tag() == y.tag() || (x.is_bool() && y.is_bool());
    if !(vm.compat52 || cdata || same) {
        return Err(vm.compare_error(x, y));
    }
    if let Some(v) = on_cdata(vm, if le { Mm::Le } else { Mm::Lt }, x, y) {
        return Ok(branch(vm, v.truthy() != negate));
    }
    let (mut l, mut r, mut le, mut negate) = (x, y, le, negate);
    loop {
        let mm = if le { Mm::Le } else { Mm::Lt };
        let f = order_handler(vm, l, r, mm, cdata);
        if !f.is_nil() {
            let cont = if negate { Cont::CondFalse } else { Cont::CondTrue };
            return call_meta(vm, cont as u64, f, &[l, r]);
        }
        if !le {
            // Of kinds that differ the text has them in the order of the last question.
            return Err(vm.compare_error(l, r));
        }
        // `a <= b` is `not (b < a)`.
        std::mem::swap(&mut l, &mut r);
        le = false;
        negate = !negate;
    }
}

/// The handler both operands agree on (5.1), or the first one that exists (5.2); that of the cdata if one is; nil
/// if none.
pub(crate) fn order_handler(vm: &mut Vm, l: Value, r: Value, mm: Mm, cdata: bool) -> Value {
    if cdata {
        return vm.metamethod(if l.tag() == tag::CDATA { l } else { r }, mm);
    }
    let f = vm.metamethod(l, mm);
    let g = vm.metamethod(r, mm);
    if vm.compat52 {
        return if f.is_nil() { g } else { f };
    }
    if f.raw_identical(g) { f } else { Value::NIL }
}

fn eq_regs(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let (x, y) = (reg(vm, a), reg(vm, d));
    equal(vm, x, y)
}

fn eq_const(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let x = reg(vm, a);
    let y = match current_ins(vm).op() {
        Op::ISEQS | Op::ISNES => kstr(vm, d),
        Op::ISEQN | Op::ISNEN => knum(vm, d),
        _ => match d {
            0 => Value::NIL,
            1 => Value::FALSE,
            _ => Value::TRUE,
        },
    };
    equal(vm, x, y)
}

/// `x == y` for operands that are not the same word.
fn equal(vm: &mut Vm, x: Value, y: Value) -> HelperResult {
    let negate = matches!(current_ins(vm).op(), Op::ISNEV | Op::ISNES | Op::ISNEN | Op::ISNEP);
    if let (Some(l), Some(r)) = (x.as_obj::<Str>(), y.as_obj::<Str>()) {
        let holds = vm.heap.str_eq(l, r);
        return Ok(branch(vm, holds != negate));
    }
    if let Some(v) = on_cdata(vm, Mm::Eq, x, y) {
        return Ok(branch(vm, v.truthy() != negate));
    }
    let f = eq_handler(vm, x, y);
    if f.is_nil() {
        return Ok(branch(vm, (x.0 == y.0) != negate));
    }
    let cont = if negate { Cont::CondFalse } else { Cont::CondTrue };
    call_meta(vm, cont as u64, f, &[x, y])
}

/// The `__eq` that decides about two different objects; nil if they are just different.
pub(crate) fn eq_handler(vm: &mut Vm, x: Value, y: Value) -> Value {
    if x.tag() == tag::CDATA || y.tag() == tag::CDATA {
        let c = if x.tag() == tag::CDATA { x } else { y };
        return vm.metamethod(c, Mm::Eq);
    }
    if x.tag() != y.tag() || !(x.tag() == tag::TAB || x.tag() == tag::UDATA) {
        return Value::NIL;
    }
    let f = vm.metamethod(x, Mm::Eq);
    if f.is_nil() {
        return f;
    }
    let g = vm.metamethod(y, Mm::Eq);
    if f.raw_identical(g) { f } else { Value::NIL }
}

fn type_mismatch(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let v = reg(vm, a);
    let expected = match !(d as u32).wrapping_neg() {
        t if t == !tag::STR => "string",
        t if t == !tag::TAB => "table",
        t if t == !tag::FUNC => "function",
        _ => "number",
    };
    let text = crate::error::messages::fill(
        crate::error::messages::BAD_TYPE,
        &[expected.as_bytes(), v.type_name().as_bytes()],
    );
    Err(vm.throw_here(&text))
}
