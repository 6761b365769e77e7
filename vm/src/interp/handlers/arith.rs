//! Arithmetic and bit operations on numbers.

use crate::interp::arith::{arith_slow, bit_slow, concat, len_slow, unm_slow};
use crate::interp::dispatch::{next, op, tail};
use crate::string::Str;
use crate::table::Table;
use crate::value::{Value, number, tag};

/// `x` rounded down, without a call: adding and subtracting 2^52 rounds to an integer.
#[inline(always)]
pub(crate) fn floor(x: f64) -> f64 {
    const BIG: f64 = 4503599627370496.0;
    if x.abs() < BIG {
        let t = ((x.abs() + BIG) - BIG).copysign(x);
        // Whether rounding went up is as good as random: it must not become a branch.
        let down = f64::from_bits((t > x) as u64 * 1f64.to_bits());
        t - down
    } else {
        x
    }
}

/// Lua's modulo.
#[inline(always)]
pub(crate) fn modulo(a: f64, b: f64) -> f64 {
    a - floor(a / b) * b
}

/// Is the value in a slot a number? Looks at the slot itself, see [`num_in`].
///
/// # Safety
/// `p` is a slot.
#[inline(always)]
pub(crate) unsafe fn is_num_in(p: *const Value) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*p).is_num() }
}

/// The number in a slot. Volatile, so that it is loaded into a floating-point register at once and not moved there
/// from the integer register of the type check.
///
/// # Safety
/// `p` is a slot.
#[inline(always)]
pub(crate) unsafe fn num_in(p: *const Value) -> f64 {
    // SAFETY: the caller's promise; a value has the size and alignment of a double.
    unsafe { (p as *const f64).read_volatile() }
}

macro_rules! binary {
    ($vn:ident $nv:ident $vv:ident |$x:ident, $y:ident| $e:expr) => {
        op! { $vn |pc, base, k, vm, a, d| {
            let l = base.add(d >> 8);
            if is_num_in(l) {
                let $x = num_in(l);
                let $y = num_in(k.add(d & 0xff));
                *base.add(a) = Value::num_trusted($e);
                next!(pc, base, k, vm)
            }
            tail!(arith_slow, pc, base, k, vm, a, d)
        } }
        op! { $nv |pc, base, k, vm, a, d| {
            let r = base.add(d >> 8);
            if is_num_in(r) {
                let $x = num_in(k.add(d & 0xff));
                let $y = num_in(r);
                *base.add(a) = Value::num_trusted($e);
                next!(pc, base, k, vm)
            }
            tail!(arith_slow, pc, base, k, vm, a, d)
        } }
        op! { $vv |pc, base, k, vm, a, d| {
            let l = base.add(d >> 8);
            let r = base.add(d & 0xff);
            if is_num_in(l) && is_num_in(r) {
                let $x = num_in(l);
                let $y = num_in(r);
                *base.add(a) = Value::num_trusted($e);
                next!(pc, base, k, vm)
            }
            tail!(arith_slow, pc, base, k, vm, a, d)
        } }
    };
}
binary!(ADDVN ADDNV ADDVV |x, y| x + y);
binary!(SUBVN SUBNV SUBVV |x, y| x - y);
binary!(MULVN MULNV MULVV |x, y| x * y);
binary!(DIVVN DIVNV DIVVV |x, y| x / y);
binary!(MODVN MODNV MODVV |x, y| modulo(x, y));

/// A power. A function of its own: a handler makes no call through a pointer, as one of the C library is.
#[inline(never)]
extern "C" fn power(x: f64, y: f64) -> f64 {
    x.powf(y)
}

op! { POW |pc, base, k, vm, a, d| {
    let l = base.add(d >> 8);
    let r = base.add(d & 0xff);
    if is_num_in(l) && is_num_in(r) {
        *base.add(a) = Value::num(power(num_in(l), num_in(r)));
        next!(pc, base, k, vm)
    }
    tail!(arith_slow, pc, base, k, vm, a, d)
} }
op! { CAT |pc, base, k, vm, a, d| {
    tail!(concat, pc, base, k, vm, a, d)
} }
op! { UNM |pc, base, k, vm, a, d| {
    let v = *base.add(d);
    if v.is_num() {
        *base.add(a) = Value(v.0 ^ 1 << 63);
        next!(pc, base, k, vm)
    }
    tail!(unm_slow, pc, base, k, vm, a, d)
} }
op! { LEN |pc, base, k, vm, a, d| {
    let v = *base.add(d);
    if v.tag() == tag::STR {
        let s = v.payload() as *const Str;
        *base.add(a) = Value::num_trusted((*s).len as f64);
        next!(pc, base, k, vm)
    }
    tail!(len_table, pc, base, k, vm, a, d)
} }
op! {
    /// `LEN` of a table whose border lies in its array part: see [`Table::len`].
    #[inline(never)]
    len_table |pc, base, k, vm, a, d| {
        let v = *base.add(d);
        if v.tag() == tag::TAB {
            let t = v.payload() as *const Table;
            if (*t).meta.is_none() || !(*vm).compat52 {
                let array = (*t).array;
                let mut hi = (*t).asize as usize;
                hi -= (hi != 0) as usize;
                if hi > 0 && (*array.add(hi)).is_nil() {
                    let mut lo = 0;
                    while hi - lo > 1 {
                        let mid = (lo + hi) / 2;
                        if (*array.add(mid)).is_nil() { hi = mid } else { lo = mid }
                    }
                    *base.add(a) = Value::num_trusted(lo as i64 as f64);
                    next!(pc, base, k, vm)
                }
                if (*t).hmask == 0 {
                    *base.add(a) = Value::num_trusted(hi as i64 as f64);
                    next!(pc, base, k, vm)
                }
            }
        }
        tail!(len_slow, pc, base, k, vm, a, d)
    }
}

op! { BNOT |pc, base, k, vm, a, d| {
    let v = *base.add(d);
    if v.is_num() {
        *base.add(a) = Value::num_trusted(!number::to_bit(v.num_unchecked()) as f64);
        next!(pc, base, k, vm)
    }
    tail!(bit_slow, pc, base, k, vm, a, d)
} }
macro_rules! bits {
    ($name:ident |$x:ident, $y:ident| $e:expr) => {
        op! { $name |pc, base, k, vm, a, d| {
            let l = *base.add(d >> 8);
            let r = *base.add(d & 0xff);
            if l.is_num() && r.is_num() {
                let $x = number::to_bit(l.num_unchecked());
                let $y = number::to_bit(r.num_unchecked());
                *base.add(a) = Value::num_trusted(($e) as f64);
                next!(pc, base, k, vm)
            }
            tail!(bit_slow, pc, base, k, vm, a, d)
        } }
    };
}
bits!(BAND | x, y | x & y);
bits!(BOR | x, y | x | y);
bits!(BXOR | x, y | x ^ y);
bits!(BSHL | x, y | x.wrapping_shl(y as u32));
bits!(BSHR | x, y | (x as u32).wrapping_shr(y as u32) as i32);
bits!(BSAR | x, y | x.wrapping_shr(y as u32));
