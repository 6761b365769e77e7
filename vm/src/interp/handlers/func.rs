//! Function headers. `a` is the frame size, `d` the number of arguments plus one.

use crate::bytecode::ops::Op;
use crate::cell::gc_ref::Gc;
use crate::function::closure::{LuaFunc, NativeFunc};
use crate::interp::coroutine::{resume_op, wrap_op, yield_op};
use crate::interp::dispatch::{constants, enter_func, func_ptr, next, op, put, tail};
use crate::interp::handlers::native::results;
use crate::interp::hot::{enter_trace_call, func_slow, hot_call};
use crate::interp::unwind::{pcall_slow, xpcall_slow};
use crate::limits::COROUTINE_DEPTH_MAX;
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
    enter_func!(nb, vm, d - 1)
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
    enter_func!(nb, vm, d - 2)
} }
/// Makes `$co` the running coroutine.
macro_rules! switch {
    ($vm:ident, $co:ident) => {{
        (*$co).hdr.flags = Status::Running as u8;
        (*$vm).cur = Gc::from_ptr(std::ptr::NonNull::new_unchecked($co));
        let max = if *(*$vm).flags.as_ptr() == 0 { (*$co).maxstack } else { std::ptr::null_mut() };
        *(*$vm).stack_limit.as_ptr() = max;
    }};
}

/// Continues the coroutine `$v` with `$n` values from `$from`, when it waits in a yield that Lua code called and
/// nothing else is in the way. The current frame is the native's at `$base`, with `$d - 1` arguments.
macro_rules! continue_coroutine {
    ($vm:ident, $base:ident, $d:ident, $v:expr, $from:expr, $n:expr) => {{
        let v = $v;
        let th = (*$vm).cur.as_ptr();
        if v.tag() == tag::THREAD && !(*$vm).recording {
            let co = v.payload() as *mut Thread;
            let cb = (*co).base;
            let link = (*cb.sub(1)).0;
            // A fresh one has no link yet.
            if (*co).hdr.flags == Status::Suspended as u8
                && (*co).hdr.aux == 0
                && frame::is_lua(link)
                && link != 0
                && cb.add($d) < (*co).maxstack
                && (*th).depth < COROUTINE_DEPTH_MAX
            {
                (*th).base = $base;
                (*th).top = $base.add($d - 1);
                (*th).hdr.flags = Status::Normal as u8;
                (*co).resumer = Some((*$vm).cur);
                (*co).depth = (*th).depth + 1;
                switch!($vm, co);
                let from = $from;
                results!($vm, cb, link, 0, from, $n)
            }
        }
    }};
}

op! { FUNCRESUME |pc, base, k, vm, a, d| {
    if d >= 2 {
        continue_coroutine!(vm, base, d, *base, base.add(1), d - 2);
    }
    tail!(resume_op, pc, base, k, vm, a, d)
} }
op! { FUNCWRAP |pc, base, k, vm, a, d| {
    let f = func_ptr(*base.sub(2)) as *const u8;
    let co = *(f.add(NativeFunc::UPVALS_OFFSET) as *const Value);
    continue_coroutine!(vm, base, d, co, base, d - 1);
    tail!(wrap_op, pc, base, k, vm, a, d)
} }
op! { FUNCYIELD |pc, base, k, vm, a, d| {
    let co = (*vm).cur.as_ptr();
    if let Some(r) = (*co).resumer
        && (*co).nruns == 0
        && !(*vm).recording
        && !(*vm).hook.active
    {
        let r = r.as_ptr();
        let rb = (*r).base;
        let link = (*rb.sub(1)).0;
        if frame::is_lua(link) && rb.add(d) < (*r).maxstack {
            (*co).base = base;
            (*co).top = base;
            (*co).hdr.aux = 0;
            (*co).hdr.flags = Status::Suspended as u8;
            (*co).resumer = None;
            let f = func_ptr(*rb.sub(2));
            switch!(vm, r);
            if *(*f).pc as u8 == Op::FUNCWRAP as u8 {
                results!(vm, rb, link, 0, base, d - 1)
            }
            *rb.sub(2) = Value::TRUE;
            results!(vm, rb, link, 1, base, d - 1)
        }
    }
    tail!(yield_op, pc, base, k, vm, a, d)
} }
