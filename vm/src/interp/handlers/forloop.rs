//! Loops. The plain forms count hotness, the `I` forms do not (and stand in for the plain ones while no JIT is there),
//! the `J` forms enter a trace. While the flag word is not zero, the dispatch table has the `_POLLS` handlers in the
//! place of the `I` forms and the `_COUNTS_POLLS` handlers in the place of the plain ones: a loop pays nothing for limits
//! that are not set. That counting forms look at the flags when their counter runs out is not enough: a function header
//! that shares the counter may be what always runs it out.

use crate::interp::dispatch::{next, op, tail};
use crate::interp::forloop::for_slow;
use crate::interp::handlers::arith::{is_num_in, num_in};
use crate::interp::hot::{enter_trace, hot_loop, poll};
use crate::state::HOT_SIZE;
use crate::value::Value;

/// Counts a back edge; runs out of the handler when the counter does.
macro_rules! count {
    ($pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let c = (&raw mut (*$vm).hot as *mut u16).add(($pc as usize >> 2) & (HOT_SIZE - 1));
        let n = *c;
        *c = n.wrapping_sub(2);
        if n < 2 {
            tail!(hot_loop, $pc, $base, $k, $vm, $a, $d)
        }
    }};
}

/// Looks at the flag word; the instruction at `$pc` is the next one.
macro_rules! poll {
    ($pc:expr, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let pc = $pc;
        if *(*$vm).flags.as_ptr() != 0 {
            tail!(poll, pc, $base, $k, $vm, $a, $d)
        }
        next!(pc, $base, $k, $vm)
    }};
}

op! { FORI |pc, base, k, vm, a, d| {
    let r = base.add(a);
    if !(is_num_in(r) && is_num_in(r.add(1)) && is_num_in(r.add(2))) {
        tail!(for_slow, pc, base, k, vm, a, d)
    }
    let (x, l) = (num_in(r), num_in(r.add(1)));
    *r.add(3) = Value::num_trusted(x);
    // The sign bit of the step decides, as in LuaJIT.
    if ((*r.add(2)).0 as i64) < 0 {
        if l <= x {
            next!(pc, base, k, vm)
        }
        next!(pc.add(d).sub(0x8000), base, k, vm)
    }
    if x <= l {
        next!(pc, base, k, vm)
    }
    next!(pc.add(d).sub(0x8000), base, k, vm)
} }
op! { JFORI |pc, base, k, vm, a, d| {
    let r = base.add(a);
    if !(is_num_in(r) && is_num_in(r.add(1)) && is_num_in(r.add(2))) {
        tail!(for_slow, pc, base, k, vm, a, d)
    }
    let (x, l) = (num_in(r), num_in(r.add(1)));
    *r.add(3) = Value::num_trusted(x);
    let inside = if ((*r.add(2)).0 as i64) < 0 { l <= x } else { x <= l };
    let end = pc.add(d).sub(0x8000);
    if inside {
        // The JFORL in front of the loop's end knows the trace.
        let trace = *(end.sub(1) as *const u16).add(1) as usize;
        tail!(enter_trace, end, base, k, vm, a, trace)
    }
    next!(end, base, k, vm)
} }

/// Steps the loop; continues with `$go` when it goes on.
macro_rules! step {
    ($pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident, $go:block) => {{
        let r = $base.add($a);
        let step = *r.add(2);
        let x = (*r).num_unchecked() + step.num_unchecked();
        let l = (*r.add(1)).num_unchecked();
        *r = $crate::value::Value::num_trusted(x);
        if (step.0 as i64) >= 0 {
            if x <= l {
                *r.add(3) = $crate::value::Value::num_trusted(x);
                $go
            }
        } else if l <= x {
            *r.add(3) = $crate::value::Value::num_trusted(x);
            $go
        }
        next!($pc, $base, $k, $vm)
    }};
}
op! { FORL |pc, base, k, vm, a, d| {
    count!(pc, base, k, vm, a, d);
    step!(pc, base, k, vm, a, d, { next!(pc.add(d).sub(0x8000), base, k, vm) })
} }
op! { IFORL |pc, base, k, vm, a, d| {
    step!(pc, base, k, vm, a, d, { next!(pc.add(d).sub(0x8000), base, k, vm) })
} }
op! { FORL_POLLS |pc, base, k, vm, a, d| {
    step!(pc, base, k, vm, a, d, { poll!(pc.add(d).sub(0x8000), base, k, vm, a, d) })
} }
op! { FORL_COUNTS_POLLS |pc, base, k, vm, a, d| {
    count!(pc, base, k, vm, a, d);
    step!(pc, base, k, vm, a, d, { poll!(pc.add(d).sub(0x8000), base, k, vm, a, d) })
} }
op! { JFORL |pc, base, k, vm, a, d| {
    step!(pc, base, k, vm, a, d, { tail!(enter_trace, pc, base, k, vm, a, d) })
} }

op! { ITERL |pc, base, k, vm, a, d| {
    count!(pc, base, k, vm, a, d);
    let v = *base.add(a);
    if !v.is_nil() {
        *base.add(a).sub(1) = v;
        next!(pc.add(d).sub(0x8000), base, k, vm)
    }
    next!(pc, base, k, vm)
} }
op! { IITERL |pc, base, k, vm, a, d| {
    let v = *base.add(a);
    if !v.is_nil() {
        *base.add(a).sub(1) = v;
        next!(pc.add(d).sub(0x8000), base, k, vm)
    }
    next!(pc, base, k, vm)
} }
op! { ITERL_POLLS |pc, base, k, vm, a, d| {
    let v = *base.add(a);
    if !v.is_nil() {
        *base.add(a).sub(1) = v;
        poll!(pc.add(d).sub(0x8000), base, k, vm, a, d)
    }
    next!(pc, base, k, vm)
} }
op! { ITERL_COUNTS_POLLS |pc, base, k, vm, a, d| {
    count!(pc, base, k, vm, a, d);
    let v = *base.add(a);
    if !v.is_nil() {
        *base.add(a).sub(1) = v;
        poll!(pc.add(d).sub(0x8000), base, k, vm, a, d)
    }
    next!(pc, base, k, vm)
} }
op! { JITERL |pc, base, k, vm, a, d| {
    let v = *base.add(a);
    if !v.is_nil() {
        *base.add(a).sub(1) = v;
        tail!(enter_trace, pc, base, k, vm, a, d)
    }
    next!(pc, base, k, vm)
} }

op! { LOOP |pc, base, k, vm, a, d| {
    count!(pc, base, k, vm, a, d);
    next!(pc, base, k, vm)
} }
op! { ILOOP |pc, base, k, vm, a, d| {
    next!(pc, base, k, vm)
} }
op! { LOOP_POLLS |pc, base, k, vm, a, d| {
    poll!(pc, base, k, vm, a, d)
} }
op! { LOOP_COUNTS_POLLS |pc, base, k, vm, a, d| {
    count!(pc, base, k, vm, a, d);
    poll!(pc, base, k, vm, a, d)
} }
op! { JLOOP |pc, base, k, vm, a, d| {
    tail!(enter_trace, pc, base, k, vm, a, d)
} }

const _: () = assert!(HOT_SIZE.is_power_of_two());
