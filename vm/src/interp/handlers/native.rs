//! Natives: the header they all start with, their return to Lua code, and the ones with a typed form.

use crate::function::closure::NativeFunc;
use crate::interp::call::{NATIVE_ONE, after_native, native_entry};
use crate::interp::dispatch::{constants, func_ptr, next, op, tail};
use crate::interp::handlers::arith::{is_num_in, num_in};
use crate::interp::hot::func_slow;
use crate::state::Handler;
use crate::state::profile::vmstate;
use crate::thread::frame;
use crate::value::Value;

op! { FUNCC |pc, base, k, vm, a, d| {
    let fast = (*(func_ptr(*base.sub(2)) as *const NativeFunc)).fast;
    if fast.is_null() {
        tail!(any_native, pc, base, k, vm, a, d)
    }
    let h: Handler = std::mem::transmute(fast);
    tail!(h, pc, base, k, vm, a, d)
} }
op! {
    /// A native through its one general signature.
    #[inline(never)]
    any_native |pc, base, k, vm, a, d| {
    let th = (*vm).cur.as_ptr();
    let top = base.add(d).sub(1);
    (*th).base = base;
    (*th).top = top;
    // Natives may push some slots without asking: those above `maxstack`.
    if top > (*th).maxstack {
        tail!(func_slow, pc, base, k, vm, a, d)
    }
    let act = native_entry(vm, d - 1);
    let base = (*(*vm).cur.as_ptr()).base;
    if act == NATIVE_ONE {
        let link = (*base.sub(1)).0;
        let at = (link as *const u8).sub(4);
        if frame::is_lua(link) && *at.add(3) == 2 {
            // The result is in its place.
            let base = base.sub(2).sub(*at.add(1) as usize);
            let k = constants(base);
            next!(link as *const u32, base, k, vm)
        }
    }
    tail!(after_native, std::ptr::null(), base, std::ptr::null(), vm, act, 0)
} }

op! {
    /// As [`FUNCC`], while a profiler wants to know when library functions run.
    FUNCC_TOLD |pc, base, k, vm, a, d| {
    let th = (*vm).cur.as_ptr();
    let top = base.add(d).sub(1);
    (*th).base = base;
    (*th).top = top;
    if top > (*th).maxstack {
        tail!(func_slow, pc, base, k, vm, a, d)
    }
    *(*vm).profile.state.as_ptr() = vmstate::LIBRARY;
    let act = native_entry(vm, d - 1);
    *(*vm).profile.state.as_ptr() = vmstate::INTERPRETED;
    let base = (*(*vm).cur.as_ptr()).base;
    tail!(after_native, std::ptr::null(), base, std::ptr::null(), vm, act, 0)
} }

/// Returns `$v` to a Lua caller that wants one value or none, or whatever there is: `multres` is set in any case, which
/// costs less than to ask. Any other caller gets it the long way.
macro_rules! one_result {
    ($vm:ident, $base:ident, $v:expr) => {{
        *$base.sub(2) = $v;
        let link = (*$base.sub(1)).0;
        let at = (link as *const u8).sub(4);
        (*$vm).multres = 2;
        if frame::is_lua(link) && *at.add(3) <= 2 {
            let base = $base.sub(2).sub(*at.add(1) as usize);
            let k = constants(base);
            next!(link as *const u32, base, k, $vm)
        }
        tail!(
            $crate::interp::handlers::native::one_result_far,
            std::ptr::null(),
            $base,
            std::ptr::null(),
            $vm,
            0,
            0
        )
    }};
}
op! {
    /// The one result of the native frame at `base` is in its place; the caller wants more, or is no Lua code.
    #[inline(never)]
    one_result_far |pc, base, k, vm, a, d| {
        (*(*vm).cur.as_ptr()).base = base;
        tail!(after_native, std::ptr::null(), base, std::ptr::null(), vm, NATIVE_ONE, 0)
    }
}
/// Values `$n` from `$from` become the results of the native frame at `$base`, `$lead` of them stored already; its
/// link is a Lua caller's.
macro_rules! results {
    ($vm:ident, $base:ident, $link:ident, $lead:expr, $from:ident, $n:expr) => {{
        let at = ($link as *const u8).sub(4);
        let wanted = *at.add(3) as usize;
        let to = $base.sub(2);
        let n = $n;
        let mut i = 0;
        while i < n {
            put(to.add(i + $lead), *$from.add(i));
            i += 1;
        }
        i += $lead;
        if wanted == 0 {
            (*$vm).multres = i as u32 + 1;
        } else {
            while i + 1 < wanted {
                put(to.add(i), Value::NIL);
                i += 1;
            }
        }
        let base = to.sub(*at.add(1) as usize);
        let k = constants(base);
        next!($link as *const u32, base, k, $vm)
    }};
}

/// Natives with a typed signature of numbers: called directly when the arguments fit. One handler per signature, so
/// that each saves two registers only.
macro_rules! typed {
    ($(#[$doc:meta])* $name:ident($count:literal) $ty:ty, |$base:ident, $f:ident| $call:expr) => {
        op! {
            $(#[$doc])*
            $name |pc, base, k, vm, a, d| {
                let $base = base;
                if d == $count + 1 && is_num_in($base) && ($count == 1 || is_num_in($base.add(1))) {
                    let func = func_ptr(*$base.sub(2)) as *const NativeFunc;
                    let $f: $ty = std::mem::transmute((*func).direct);
                    let v = $call;
                    one_result!(vm, $base, v)
                }
                tail!(any_native, pc, base, k, vm, a, d)
            }
        }
    };
}
typed!(
    /// Number to number.
    typed_num(1) extern "C" fn(f64) -> f64, |base, f| Value::num(f(num_in(base)))
);
typed!(
    /// Two numbers to number.
    typed_num2(2) extern "C" fn(f64, f64) -> f64, |base, f| Value::num(f(num_in(base), num_in(base.add(1))))
);

pub(crate) use {one_result, results};
