//! Upvalues and closures.

use crate::cell::header::gcbits;
use crate::function::closure::LuaFunc;
use crate::function::upvalue::Upval;
use crate::interp::dispatch::{func_ptr, next, op, tail};
use crate::interp::func::{close_slow, upval_barrier};
use crate::value::{Value, tag};

/// Upvalue `i` of the function of the frame at `base`.
///
/// # Safety
/// `base` is the base of a Lua function's frame and the function has more than `i` upvalues.
#[inline(always)]
unsafe fn upval(base: *const Value, i: usize) -> *mut Upval {
    // SAFETY: the handles follow the closure.
    unsafe {
        let f = func_ptr(*base.sub(2)) as *const u8;
        *(f.add(LuaFunc::UPVALS_OFFSET) as *const *mut Upval).add(i)
    }
}

macro_rules! pri {
    ($d:expr) => {
        Value(((!$d as i64) << tag::TAG_SHIFT) as u64 | tag::PAYLOAD_MASK)
    };
}

op! { UGET |pc, base, k, vm, a, d| {
    let uv = upval(base, d);
    *base.add(a) = *(*uv).v;
    next!(pc, base, k, vm)
} }
op! { USETV |pc, base, k, vm, a, d| {
    let uv = upval(base, a);
    let v = *base.add(d);
    *(*uv).v = v;
    if (*uv).hdr.gc & gcbits::BLACK != 0 && v.is_gc() {
        tail!(upval_barrier, pc, base, k, vm, uv as usize, d)
    }
    next!(pc, base, k, vm)
} }
op! { USETS |pc, base, k, vm, a, d| {
    let uv = upval(base, a);
    *(*uv).v = *k.sub(1 + d);
    if (*uv).hdr.gc & gcbits::BLACK != 0 {
        tail!(upval_barrier, pc, base, k, vm, uv as usize, d)
    }
    next!(pc, base, k, vm)
} }
op! { USETN |pc, base, k, vm, a, d| {
    let uv = upval(base, a);
    *(*uv).v = *k.add(d);
    next!(pc, base, k, vm)
} }
op! { USETP |pc, base, k, vm, a, d| {
    let uv = upval(base, a);
    *(*uv).v = pri!(d);
    next!(pc, base, k, vm)
} }
op! { UCLO |pc, base, k, vm, a, d| {
    let th = (*vm).cur.as_ptr();
    let level = base.add(a);
    while let Some(u) = (*th).open {
        let u = u.as_ptr();
        if (*u).v < level {
            break;
        }
        if (*u).hdr.gc & gcbits::BLACK != 0 {
            tail!(close_slow, pc, base, k, vm, a, d)
        }
        // As `Heap::close_upval`, and for line hooks as a helper would.
        (*vm).pc = pc;
        (*th).open = (*u).next;
        (*u).tv = *(*u).v;
        (*u).v = &raw mut (*u).tv;
        (*u).hdr.flags = 1;
        (*u).next = None;
    }
    next!(pc.add(d).sub(0x8000), base, k, vm)
} }
