//! Function headers. `a` is the frame size, `d` the number of arguments plus one.

use std::sync::atomic::{Ordering, compiler_fence};

use crate::cell::gc_ref::Gc;
use crate::function::closure::{LuaFunc, NativeFunc};
use crate::interp::coroutine::{resume_op, wrap_op, yield_op};
use crate::interp::dispatch::{constants, enter_func, func_ptr, next, op, put, tail};
use crate::interp::handlers::native::results;
use crate::interp::hot::{enter_trace_call, func_slow, hot_call};
use crate::interp::unwind::{pcall_slow, xpcall_slow};
use crate::limits::{COROUTINE_DEPTH_MAX, STACK_EXTRA};
use crate::state::HOT_SIZE;
use crate::thread::frame::{self, FrameType};
use crate::thread::{Status, Thread};
use crate::value::{Value, tag};

/// Room for the frame, else `$slow`; missing arguments become nil; leaves `$k` set.
macro_rules! fixed {
    ($pc:ident, $base:ident, $vm:ident, $a:ident, $d:ident, $k:ident) => {
        if $base.add($a) > *(*$vm).stack_limit.as_ptr() {
            tail!(func_slow, $pc, $base, std::ptr::null(), $vm, $a, $d)
        }
        let f = func_ptr(*$base.sub(2)) as *const LuaFunc;
        let pt = (*f).proto.as_ptr();
        let $k: *const Value = (*pt).k;
        let params = (*pt).numparams as usize;
        let mut i = $d;
        while i <= params {
            put($base.add(i - 1), Value::NIL);
            i += 1;
        }
    };
}

macro_rules! count_call {
    ($pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let c = (&raw mut (*$vm).hot as *mut u16).add(($pc as usize >> 2) & (HOT_SIZE - 1));
        let n = *c;
        *c = n.wrapping_sub(1);
        if n < 1 {
            tail!(hot_call, $pc, $base, $k, $vm, $a, $d)
        }
    }};
}

op! { FUNCF |pc, base, k, vm, a, d| {
    count_call!(pc, base, k, vm, a, d);
    fixed!(pc, base, vm, a, d, kk);
    next!(pc, base, kk, vm)
} }
op! { IFUNCF |pc, base, k, vm, a, d| {
    fixed!(pc, base, vm, a, d, kk);
    next!(pc, base, kk, vm)
} }
op! { JFUNCF |pc, base, k, vm, a, d| {
    // D of the header is the trace; `d` is the number of arguments.
    tail!(enter_trace_call, pc, base, k, vm, a, d)
} }

/// The frame of a vararg function: its fixed parameters are copied above the arguments.
macro_rules! vararg {
    ($pc:ident, $base:ident, $vm:ident, $a:ident, $d:ident) => {{
        let nb = $base.add($d + 1);
        if nb.add($a) > *(*$vm).stack_limit.as_ptr() {
            tail!(func_slow, $pc, $base, std::ptr::null(), $vm, $a, $d)
        }
        let fv = *$base.sub(2);
        let f = func_ptr(fv) as *const LuaFunc;
        *nb.sub(2) = fv;
        *nb.sub(1) = frame::raw(frame::link($d + 1, FrameType::Varg));
        let pt = (*f).proto.as_ptr();
        let k: *const Value = (*pt).k;
        let params = (*pt).numparams as usize;
        let mut i = 0;
        while i < params {
            if i + 1 < $d {
                put(nb.add(i), *$base.add(i));
                put($base.add(i), Value::NIL);
            } else {
                put(nb.add(i), Value::NIL);
            }
            i += 1;
        }
        next!($pc, nb, k, $vm)
    }};
}
op! { FUNCV |pc, base, k, vm, a, d| {
    count_call!(pc, base, k, vm, a, d);
    vararg!(pc, base, vm, a, d)
} }
op! { IFUNCV |pc, base, k, vm, a, d| {
    vararg!(pc, base, vm, a, d)
} }
op! { JFUNCV |pc, base, k, vm, a, d| {
    tail!(enter_trace_call, pc, base, k, vm, a, d)
} }

op! { FUNCPCALL |pc, base, k, vm, a, d| {
    if d < 2 || base.add(d + 1) > (*(*vm).cur.as_ptr()).maxstack || (*base).tag() != tag::FUNC {
        tail!(pcall_slow, pc, base, k, vm, a, d)
    }
    // base[0] is the function; its frame starts two slots above, so the arguments move up by one.
    let mut i = d - 1;
    while i >= 2 {
        put(base.add(i), *base.add(i - 1));
        i -= 1;
    }
    let nb = base.add(2);
    *nb.sub(1) = frame::raw(frame::link(frame::PCALL_DELTA, FrameType::Pcall));
    enter_func!(nb, k, vm, d - 1)
} }
op! { FUNCXPCALL |pc, base, k, vm, a, d| {
    if d < 3
        || base.add(d + 1) > (*(*vm).cur.as_ptr()).maxstack
        || (*base).tag() != tag::FUNC
        || (*base.add(1)).tag() != tag::FUNC
    {
        tail!(xpcall_slow, pc, base, k, vm, a, d)
    }
    let f = *base;
    *base = *base.add(1);
    *base.add(1) = f;
    let mut i = d - 1;
    while i >= 3 {
        put(base.add(i), *base.add(i - 1));
        i -= 1;
    }
    let nb = base.add(3);
    *nb.sub(1) = frame::raw(frame::link(frame::XPCALL_DELTA, FrameType::Xpcall));
    enter_func!(nb, k, vm, d - 2)
} }
/// Makes `$co` the running coroutine.
macro_rules! switch {
    ($vm:ident, $co:ident) => {{
        (*$co).hdr.flags = Status::Running as u8;
        (*$vm).cur = Gc::from_ptr(std::ptr::NonNull::new_unchecked($co));
        let limit = (*$vm).stack_limit.as_ptr();
        *limit = (*$co).maxstack;
        // A signal handler that sets a flag takes the limit away: the flags are looked at when the limit stands there.
        compiler_fence(Ordering::SeqCst);
        if *(*$vm).flags.as_ptr() != 0 {
            *limit = std::ptr::null_mut();
        }
    }};
}

/// Values that a switch hands over without asking for room: as many fit above any frame.
const FEW: usize = 8;
const _: () = assert!(FEW + 1 < STACK_EXTRA);

/// Makes `$co` the running coroutine, resumed out of the native's frame at `$base` of `$th`, which has `$given` values. What a
/// recording or a hook would have to hear of is done by the handlers that stand in the table then (`tables::WATCHED`).
macro_rules! enter {
    ($vm:ident, $base:ident, $given:expr, $th:ident, $co:ident, $wrapped:expr) => {{
        (*$co).go_on = std::ptr::null();
        (*$co).resumer = Some(Gc::from_ptr(std::ptr::NonNull::new_unchecked($th)));
        (*$co).depth = (*$th).depth + 1;
        // Both in one piece, as a yield reads them: a waiting coroutine runs nothing.
        *(&raw mut (*$co).wrapped).cast::<u64>() = $wrapped as u64;
        (*$th).base = $base;
        (*$th).top = $base.add($given);
        (*$th).hdr.flags = Status::Normal as u8;
        (*$vm).resumed_at = $base;
        switch!($vm, $co);
    }};
}

/// Continues the coroutine `$co` with `$d - $lead` values from `$from`, when it waits in a yield that Lua code called and
/// nothing else is in the way. The current frame is the native's at `$base`, with `$d - 1` arguments.
macro_rules! continue_coroutine {
    ($vm:ident, $base:ident, $d:ident, $co:expr, $from:expr, $lead:literal) => {{
        let th = (*$vm).cur.as_ptr();
        let co: *mut Thread = $co;
        let pc = (*co).go_on;
        if !pc.is_null() && $d <= FEW && (*th).depth < COROUTINE_DEPTH_MAX {
            let cb = (*co).base;
            enter!($vm, $base, $d - 1, th, co, $lead == 1);
            tail!(given, pc, cb, $from, $vm, 0, $d - $lead)
        }
    }};
}

op! {
    /// `d` values from `k` become the results of the native frame at `base`, whose caller goes on at `pc`; the first `a` are
    /// in their places already.
    #[inline(never)]
    given |pc, base, k, vm, a, d| {
        let link = pc as u64;
        results!(vm, base, link, a, k, d)
    }
}

op! { FUNCRESUME |pc, base, k, vm, a, d| {
    if d >= 2 && (*base).tag() == tag::THREAD {
        continue_coroutine!(vm, base, d, (*base).payload() as *mut Thread, base.add(1), 2);
    }
    tail!(resume_op, pc, base, k, vm, a, d)
} }

/// The coroutine of the function made by `coroutine.wrap` whose frame is at `base`: its only upvalue, which no program can
/// change.
///
/// # Safety
/// The frame is that of such a function.
#[inline(always)]
unsafe fn wrapped(base: *const Value) -> *mut Thread {
    // SAFETY: the caller's promise.
    unsafe {
        let f = func_ptr(*base.sub(2)) as *const u8;
        (*(f.add(NativeFunc::UPVALS_OFFSET) as *const Value)).payload() as *mut Thread
    }
}
op! { FUNCWRAP |pc, base, k, vm, a, d| {
    // What iterators and generators do has a way of its own: nothing is handed in, and nothing wanted by the yield.
    let co = wrapped(base);
    let at = (*co).go_on;
    let th = (*vm).cur.as_ptr();
    if d == 1 && !at.is_null() && *(at as *const u8).sub(1) == 1 && (*th).depth < COROUTINE_DEPTH_MAX {
        let cb = (*co).base;
        enter!(vm, base, 0, th, co, true);
        let base = cb.sub(2).sub(*(at as *const u8).sub(3) as usize);
        let k = constants(base);
        next!(at, base, k, vm)
    }
    tail!(wrap_others, pc, base, std::ptr::null(), vm, 0, d)
} }
op! {
    #[inline(never)]
    wrap_others |pc, base, k, vm, a, d| {
        continue_coroutine!(vm, base, d, wrapped(base), base, 1);
        tail!(wrap_op, pc, base, k, vm, a, d)
    }
}

/// [`Thread::wrapped`] and, behind it, [`Thread::nruns`] of a coroutine that a wrapped function resumed and that runs nothing
/// nested, as one word.
const WRAPPED_ALONE: u64 = 1;
const _: () = assert!(
    std::mem::offset_of!(Thread, nruns) == std::mem::offset_of!(Thread, wrapped) + 4
        && std::mem::offset_of!(Thread, wrapped) % 8 == 0
        && cfg!(target_endian = "little")
);

/// Makes the resumer `$r` the running coroutine; `$co` waits in its yield at `$base`, out of which it goes on at `$here`.
macro_rules! leave {
    ($vm:ident, $base:ident, $here:ident, $co:ident, $r:ident) => {{
        (*$co).base = $base;
        (*$co).top = $base;
        (*$co).go_on = $here as *const u32;
        (*$co).hdr.flags = Status::Suspended as u8;
        (*$co).resumer = None;
        switch!($vm, $r);
    }};
}
op! { FUNCYIELD |pc, base, k, vm, a, d| {
    // One value for a call of a wrapped function that wants one.
    let co = (*vm).cur.as_ptr();
    let rb = (*vm).resumed_at;
    let here = (*base.sub(1)).0;
    if let Some(r) = (*co).resumer
        && (*r.as_ptr()).base == rb
        && *(&raw const (*co).wrapped).cast::<u64>() == WRAPPED_ALONE
        && d == 2
        && frame::is_lua(here)
    {
        let r = r.as_ptr();
        let link = (*rb.sub(1)).0;
        let at = (link as *const u8).wrapping_sub(4);
        if frame::is_lua(link) && *at.add(3) == 2 {
            leave!(vm, base, here, co, r);
            let to = rb.sub(2);
            *to = *base;
            let base = to.sub(*at.add(1) as usize);
            let k = constants(base);
            next!(link as *const u32, base, k, vm)
        }
    }
    tail!(yield_others, pc, base, std::ptr::null(), vm, 0, d)
} }
op! {
    #[inline(never)]
    yield_others |pc, base, k, vm, a, d| {
        let co = (*vm).cur.as_ptr();
        let rb = (*vm).resumed_at;
        let here = (*base.sub(1)).0;
        if let Some(r) = (*co).resumer
            && (*r.as_ptr()).base == rb
            && (*co).nruns == 0
            && d <= FEW
            && frame::is_lua(here)
        {
            let r = r.as_ptr();
            let link = (*rb.sub(1)).0;
            if frame::is_lua(link) {
                leave!(vm, base, here, co, r);
                if (*co).wrapped == 0 {
                    *rb.sub(2) = Value::TRUE;
                    tail!(given, link as *const u32, rb, base, vm, 1, d - 1)
                }
                tail!(given, link as *const u32, rb, base, vm, 0, d - 1)
            }
        }
        tail!(yield_op, pc, base, k, vm, a, d)
    }
}
