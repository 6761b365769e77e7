//! Calls and iterators. The callee's frame starts two slots above the function.

use crate::bytecode::ops::Op;
use crate::interp::call::{call_multi_slow, call_slow, callt_slow, despecialise, iter_slow, vararg_slow};
use crate::interp::dispatch::{enter_func, jump, next, op, put, tail};
use crate::interp::hot::{enter_trace, hot_loop};
use crate::state::HOT_SIZE;
use crate::table::Table;
use crate::table::next::KEY_INDEX;
use crate::thread::frame;
use crate::value::{Value, tag};

op! { CALL |pc, base, k, vm, a, d| {
    let nb = base.add(a + 2);
    if (*base.add(a)).tag() == tag::FUNC {
        *nb.sub(1) = frame::raw(pc as u64);
        enter_func!(nb, k, vm, d & 0xff)
    }
    tail!(call_slow, pc, base, k, vm, a, d)
} }
op! { CALLM |pc, base, k, vm, a, d| {
    let nb = base.add(a + 2);
    if (*base.add(a)).tag() == tag::FUNC {
        *nb.sub(1) = frame::raw(pc as u64);
        let n = (d & 0xff) + (*vm).multres as usize;
        enter_func!(nb, k, vm, n)
    }
    tail!(call_multi_slow, pc, base, k, vm, a, d)
} }

/// The tail call proper: `$n` is the number of arguments plus one.
macro_rules! tail_call {
    ($pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident, $n:expr) => {{
        let from = $base.add($a);
        let link = (*$base.sub(1)).0;
        if (*from).tag() == tag::FUNC && frame::is_lua(link) {
            *$base.sub(2) = *from;
            let n = $n;
            let mut i = 1;
            while i < n {
                put($base.add(i - 1), *from.add(i + 1));
                i += 1;
            }
            enter_func!($base, $k, $vm, n)
        }
        tail!(callt_slow, $pc, $base, $k, $vm, $a, $n)
    }};
}
op! { CALLT |pc, base, k, vm, a, d| {
    tail_call!(pc, base, k, vm, a, d, d)
} }
op! { CALLMT |pc, base, k, vm, a, d| {
    let n = d + (*vm).multres as usize;
    tail_call!(pc, base, k, vm, a, d, n)
} }

op! { ITERC |pc, base, k, vm, a, d| {
    let cb = base.add(a);
    let f = *cb.sub(3);
    *cb = f;
    *cb.add(2) = *cb.sub(2);
    *cb.add(3) = *cb.sub(1);
    if f.tag() == tag::FUNC {
        let nb = cb.add(2);
        *nb.sub(1) = frame::raw(pc as u64);
        enter_func!(nb, k, vm, 3)
    }
    tail!(iter_slow, pc, base, k, vm, a, d)
} }

/// One more round of a loop over `next`: the ITERL behind is a taken jump, or names the loop's trace.
macro_rules! again {
    ($back:ident, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident) => {{
        if $back == Op::JITERL as u8 {
            let trace = *($pc as *const u16).add(1) as usize;
            tail!(enter_trace, $pc, $base, $k, $vm, $a, trace)
        }
        jump!($pc, $base, $k, $vm)
    }};
}
op! { ITERN |pc, base, k, vm, a, d| {
    // The ITERL behind is never executed itself: it says whether this loop counts, or has a trace.
    let back = *(pc as *const u8);
    if back == Op::ITERL as u8 {
        let c = (&raw mut (*vm).hot as *mut u16).add((pc as usize >> 2) & (HOT_SIZE - 1));
        let n = *c;
        *c = n.wrapping_sub(2);
        if n < 2 {
            tail!(hot_loop, pc, base, k, vm, a, d)
        }
    }
    let cb = base.add(a);
    let t = (*cb.sub(2)).payload() as *const Table;
    let mut i = (*cb.sub(1)).0 as u32;
    let asize = (*t).asize;
    while i < asize {
        let v = *(*t).array.add(i as usize);
        if !v.is_nil() {
            *cb = Value::num_trusted(i as f64);
            *cb.add(1) = v;
            *cb.sub(1) = Value(KEY_INDEX << 32 | (i + 1) as u64);
            again!(back, pc, base, k, vm, a)
        }
        i += 1;
    }
    i -= asize;
    let hmask = (*t).hmask;
    while i <= hmask {
        let n = (*t).node.add(i as usize);
        if !(*n).val.is_nil() {
            *cb = (*n).key;
            *cb.add(1) = (*n).val;
            *cb.sub(1) = Value(KEY_INDEX << 32 | (i + asize + 1) as u64);
            again!(back, pc, base, k, vm, a)
        }
        i += 1;
    }
    next!(pc.add(1), base, k, vm)
} }

op! { ISNEXT |pc, base, k, vm, a, d| {
    let cb = base.add(a);
    let f = *cb.sub(3);
    if f.0 == (*vm).next_func.0
        && f.tag() == tag::FUNC
        && (*cb.sub(2)).tag() == tag::TAB
        && (*cb.sub(1)).is_nil()
    {
        *cb.sub(1) = Value(KEY_INDEX << 32);
        next!(pc.add(d).sub(0x8000), base, k, vm)
    }
    tail!(despecialise, pc, base, k, vm, a, d)
} }

op! { VARG |pc, base, k, vm, a, d| {
    let delta = frame::delta((*base.sub(1)).0);
    let fixed = d & 0xff;
    let wanted = d >> 8;
    let mut n = (delta - 2).wrapping_sub(fixed);
    if n as isize <= 0 {
        n = 0;
    }
    let from = base.sub(delta).add(fixed);
    let to = base.add(a);
    if wanted == 0 {
        (*vm).multres = n as u32 + 1;
        if to.add(n) > (*vm).stack_limit.as_ptr().read() {
            tail!(vararg_slow, pc, base, k, vm, a, d)
        }
        let mut i = 0;
        while i < n {
            put(to.add(i), *from.add(i));
            i += 1;
        }
        next!(pc, base, k, vm)
    }
    let mut i = 0;
    while i < wanted - 1 {
        put(to.add(i), if i < n { *from.add(i) } else { Value::NIL });
        i += 1;
    }
    next!(pc, base, k, vm)
} }
