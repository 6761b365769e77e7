//! Function headers. `a` is the frame size, `d` the number of arguments plus one.

use crate::function::closure::LuaFunc;
use crate::interp::call::{NATIVE_DONE, native_entry};
use crate::interp::coroutine::{resume_op, wrap_op, yield_op};
use crate::interp::dispatch::{constants, enter_func, func_ptr, next, op, put, resume, tail};
use crate::interp::hot::{enter_trace_call, func_slow, hot_call};
use crate::interp::ret::return_native;
use crate::interp::unwind::{pcall_slow, xpcall_slow};
use crate::state::HOT_SIZE;
use crate::thread::frame::{self, FrameType};
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

op! { FUNCC |pc, base, k, vm, a, d| {
    let th = (*vm).cur.as_ptr();
    let top = base.add(d).sub(1);
    (*th).base = base;
    (*th).top = top;
    // Natives may push some slots without asking: those above `maxstack`.
    if top > (*th).maxstack {
        tail!(func_slow, pc, base, k, vm, a, d)
    }
    let act = native_entry(vm, d - 1);
    if act != NATIVE_DONE {
        resume!(vm, act)
    }
    // Results to a Lua caller.
    let base = (*th).base;
    let link = (*base.sub(1)).0;
    if !frame::is_lua(link) {
        tail!(return_native, pc, base, k, vm, 0, 0)
    }
    let from = (*vm).ret_from;
    let n = (*vm).ret_count;
    let pc = link as *const u32;
    let to = base.sub(2);
    let at = pc.sub(1) as *const u8;
    let call_a = *at.add(1) as usize;
    let wanted = *at.add(3) as usize;
    let mut i = 0;
    while i < n {
        put(to.add(i), *from.add(i));
        i += 1;
    }
    if wanted == 0 {
        (*vm).multres = n as u32 + 1;
    } else {
        while i + 1 < wanted {
            put(to.add(i), Value::NIL);
            i += 1;
        }
    }
    let base = to.sub(call_a);
    let k = constants(base);
    next!(pc, base, k, vm)
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
op! { FUNCRESUME |pc, base, k, vm, a, d| {
    tail!(resume_op, pc, base, k, vm, a, d)
} }
op! { FUNCWRAP |pc, base, k, vm, a, d| {
    tail!(wrap_op, pc, base, k, vm, a, d)
} }
op! { FUNCYIELD |pc, base, k, vm, a, d| {
    tail!(yield_op, pc, base, k, vm, a, d)
} }
