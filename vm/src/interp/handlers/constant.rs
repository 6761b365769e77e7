//! Moves and constants.

use crate::interp::dispatch::{next, op, tail};
use crate::value::{Value, tag};

op! { MOV |pc, base, k, vm, a, d| {
    *base.add(a) = *base.add(d);
    next!(pc, base, k, vm)
} }
op! { KSTR |pc, base, k, vm, a, d| {
    *base.add(a) = *k.sub(1 + d);
    next!(pc, base, k, vm)
} }
op! { KCDATA |pc, base, k, vm, a, d| {
    *base.add(a) = *k.sub(1 + d);
    next!(pc, base, k, vm)
} }
op! { KSHORT |pc, base, k, vm, a, d| {
    *base.add(a) = Value::num_trusted(d as u16 as i16 as f64);
    next!(pc, base, k, vm)
} }
op! { KNUM |pc, base, k, vm, a, d| {
    *base.add(a) = *k.add(d);
    next!(pc, base, k, vm)
} }
op! { KPRI |pc, base, k, vm, a, d| {
    *base.add(a) = Value(((!d as i64) << tag::TAG_SHIFT) as u64 | tag::PAYLOAD_MASK);
    next!(pc, base, k, vm)
} }
op! { KNIL |pc, base, k, vm, a, d| {
    let mut at = base.add(a);
    let end = base.add(d);
    while at <= end {
        *at = Value::NIL;
        at = at.add(1);
    }
    next!(pc, base, k, vm)
} }
op! { JMP |pc, base, k, vm, a, d| {
    next!(pc.add(d).sub(0x8000), base, k, vm)
} }
