//! Comparisons, tests, `NOT`. A comparison is followed by a `JMP` that it executes itself.

use crate::bytecode::ops::Op;
use crate::cell::header::{Header, strflags};
use crate::interp::compare::{comp_slow, eq_slow, eqk_slow, type_slow};
use crate::interp::dispatch::{jump, next, op, tail};
use crate::interp::handlers::arith::{is_num_in, num_in};
use crate::value::{Value, tag};

macro_rules! ordered {
    ($name:ident, |$x:ident, $y:ident| $cond:expr) => {
        op! { $name |pc, base, k, vm, a, d| {
            let x = base.add(a);
            let y = base.add(d);
            if is_num_in(x) && is_num_in(y) {
                let $x = num_in(x);
                let $y = num_in(y);
                if $cond {
                    jump!(pc, base, k, vm)
                }
                next!(pc.add(1), base, k, vm)
            }
            tail!(comp_slow, pc, base, k, vm, a, d)
        } }
    };
}
ordered!(ISLT, |x, y| x < y);
ordered!(ISLE, |x, y| x <= y);

macro_rules! not_ordered {
    ($name:ident, |$x:ident, $y:ident| $cond:expr) => {
        op! { $name |pc, base, k, vm, a, d| {
            let x = base.add(a);
            let y = base.add(d);
            if is_num_in(x) && is_num_in(y) {
                let $x = num_in(x);
                let $y = num_in(y);
                if $cond {
                    next!(pc.add(1), base, k, vm)
                }
                jump!(pc, base, k, vm)
            }
            tail!(comp_slow, pc, base, k, vm, a, d)
        } }
    };
}
not_ordered!(ISGE, |x, y| x < y);
not_ordered!(ISGT, |x, y| x <= y);

/// Can two different words of this tag be equal all the same?
#[inline(always)]
fn needs_look(t: tag::Tag) -> bool {
    t == tag::STR || t == tag::TAB || t == tag::UDATA || t == tag::CDATA
}

macro_rules! equal {
    ($name:ident, $far:ident, $yes:ident, $no:ident) => {
        op! { $name |pc, base, k, vm, a, d| {
            let l = base.add(a);
            let r = base.add(d);
            if is_num_in(l) && is_num_in(r) {
                if num_in(l) == num_in(r) {
                    $yes!(pc, base, k, vm)
                }
                $no!(pc, base, k, vm)
            }
            tail!($far, pc, base, k, vm, a, d)
        } }
        op! {
            /// The same when not both are numbers.
            #[inline(never)]
            $far |pc, base, k, vm, a, d| {
                let x = *base.add(a);
                let y = *base.add(d);
                // Equal words are no numbers here.
                if x.0 == y.0 {
                    $yes!(pc, base, k, vm)
                }
                if x.tag() == y.tag() && needs_look(x.tag()) {
                    tail!(eq_slow, pc, base, k, vm, a, d)
                }
                if x.tag() == tag::CDATA || y.tag() == tag::CDATA {
                    tail!(eq_slow, pc, base, k, vm, a, d)
                }
                $no!(pc, base, k, vm)
            }
        }
    };
}
macro_rules! skip {
    ($pc:expr, $base:expr, $k:expr, $vm:expr) => {
        next!($pc.add(1), $base, $k, $vm)
    };
}
equal!(ISEQV, equal_far, jump, skip);
equal!(ISNEV, unequal_far, skip, jump);

macro_rules! equal_str {
    ($name:ident, $yes:ident, $no:ident) => {
        op! { $name |pc, base, k, vm, a, d| {
            let x = *base.add(a);
            let y = *k.sub(1 + d);
            if x.0 == y.0 {
                $yes!(pc, base, k, vm)
            }
            if x.tag() == tag::STR {
                let h = x.payload() as *const Header;
                if (*h).flags & strflags::INTERNED != 0 {
                    $no!(pc, base, k, vm)
                }
                tail!(eqk_slow, pc, base, k, vm, a, d)
            }
            if x.tag() == tag::CDATA {
                tail!(eqk_slow, pc, base, k, vm, a, d)
            }
            $no!(pc, base, k, vm)
        } }
    };
}
equal_str!(ISEQS, jump, skip);
equal_str!(ISNES, skip, jump);

macro_rules! equal_num {
    ($name:ident, $yes:ident, $no:ident) => {
        op! { $name |pc, base, k, vm, a, d| {
            let x = *base.add(a);
            if x.is_num() {
                if x.num_unchecked() == (*k.add(d)).num_unchecked() {
                    $yes!(pc, base, k, vm)
                }
                $no!(pc, base, k, vm)
            }
            if x.tag() == tag::CDATA {
                tail!(eqk_slow, pc, base, k, vm, a, d)
            }
            $no!(pc, base, k, vm)
        } }
    };
}
equal_num!(ISEQN, jump, skip);
equal_num!(ISNEN, skip, jump);

macro_rules! equal_pri {
    ($name:ident, $yes:ident, $no:ident) => {
        op! { $name |pc, base, k, vm, a, d| {
            let t = (*base.add(a)).tag();
            if t == !(d as u32) {
                $yes!(pc, base, k, vm)
            }
            if t == tag::CDATA {
                tail!(eqk_slow, pc, base, k, vm, a, d)
            }
            $no!(pc, base, k, vm)
        } }
    };
}
equal_pri!(ISEQP, jump, skip);
equal_pri!(ISNEP, skip, jump);

op! { ISTC |pc, base, k, vm, a, d| {
    let x = *base.add(d);
    if x.truthy() {
        *base.add(a) = x;
        jump!(pc, base, k, vm)
    }
    next!(pc.add(1), base, k, vm)
} }
op! { ISFC |pc, base, k, vm, a, d| {
    let x = *base.add(d);
    if !x.truthy() {
        *base.add(a) = x;
        jump!(pc, base, k, vm)
    }
    next!(pc.add(1), base, k, vm)
} }
op! { IST |pc, base, k, vm, a, d| {
    if (*base.add(d)).truthy() {
        jump!(pc, base, k, vm)
    }
    next!(pc.add(1), base, k, vm)
} }
op! { ISF |pc, base, k, vm, a, d| {
    if (*base.add(d)).truthy() {
        next!(pc.add(1), base, k, vm)
    }
    jump!(pc, base, k, vm)
} }
op! { ISTYPE |pc, base, k, vm, a, d| {
    // D is the complement of the tag plus one, as LuaJIT has it.
    if (*base.add(a)).tag().wrapping_add(d as u32) == 0 {
        next!(pc, base, k, vm)
    }
    tail!(type_slow, pc, base, k, vm, a, d)
} }
op! { ISNUM |pc, base, k, vm, a, d| {
    if (*base.add(a)).is_num() {
        next!(pc, base, k, vm)
    }
    tail!(type_slow, pc, base, k, vm, a, d)
} }
op! { NOT |pc, base, k, vm, a, d| {
    *base.add(a) = Value::bool(!(*base.add(d)).truthy());
    next!(pc, base, k, vm)
} }

const _: () = assert!(Op::ISEQP as u8 + 1 == Op::ISNEP as u8);
