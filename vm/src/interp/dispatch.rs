//! How handlers are written and chained. Knows no instruction.
//!
//! A handler ends in a tail call of the next one, through the table at the start of [`Vm`]. The optimiser turns
//! `return f(same arguments)` into a jump as long as the handler has no address-taken local, no value with a
//! destructor, nothing that can panic and nothing to do after a call; so whatever is not a plain load, store or
//! compare lives in a helper, a Rust function that takes `&mut Vm`, reached through a wrapper made by [`helper!`].
//! A helper answers an [`Act`]: what the wrapper does next.
//!
//! Under Miri and with the feature `loop` the same bodies expand into a trampoline: a tail call stores its
//! arguments and returns, and a plain loop makes the call.

use crate::function::closure::LuaFunc;
use crate::state::Vm;
use crate::state::native::Raised;
use crate::value::{Value, tag};

/// What follows a helper.
pub(crate) type Act = usize;
/// Go on at `vm.pc` in the current frame.
pub(crate) const NEXT: Act = 0;
/// Enter the function of the current frame with `vm.call_nargs` arguments.
pub(crate) const CALL: Act = 1;
/// Enter a native again with `vm.entry`. Never leaves `settle`.
pub(crate) const NATIVE: Act = 3;
/// Acts from here on leave the run.
pub(crate) const EXIT: Act = 8;
/// The run's function returned: `vm.ret_from`, `vm.ret_count`.
pub(crate) const EXIT_DONE: Act = 8;
/// The coroutine the host resumed has yielded: `vm.ret_from`, `vm.ret_count`.
pub(crate) const EXIT_YIELD: Act = 9;
/// The coroutine chain waits for `vm.suspend_token`.
pub(crate) const EXIT_SUSPEND: Act = 10;
/// An error reached the bottom of the run: `vm.err`.
pub(crate) const EXIT_ERROR: Act = 11;
/// The coroutine chain was stopped between two instructions.
pub(crate) const EXIT_PREEMPTED: Act = 12;
/// Trampoline only: call what was stored.
#[cfg(any(miri, feature = "loop"))]
pub(crate) const BOUNCE: Act = 16;

/// A tail call of a handler or wrapper.
#[cfg(not(any(miri, feature = "loop")))]
macro_rules! tail {
    ($f:expr, $pc:expr, $base:expr, $k:expr, $vm:expr, $a:expr, $d:expr) => {
        return $f($pc, $base, $k, $vm, $a, $d)
    };
}
#[cfg(any(miri, feature = "loop"))]
macro_rules! tail {
    ($f:expr, $pc:expr, $base:expr, $k:expr, $vm:expr, $a:expr, $d:expr) => {{
        let b = $crate::state::Bounce { f: $f, pc: $pc, base: $base, k: $k, a: $a, d: $d };
        (*$vm).bounce = b;
        return $crate::interp::dispatch::BOUNCE;
    }};
}

/// Dispatches the instruction at `$pc`.
macro_rules! next {
    ($pc:expr, $base:expr, $k:expr, $vm:expr) => {{
        let at = $pc as *const u8;
        let op = *at as usize;
        let a = *at.add(1) as usize;
        let d = *(at as *const u16).add(1) as usize;
        let f = *($vm as *const $crate::state::Handler).add(op);
        tail!(f, (at as *const u32).add(1), $base, $k, $vm, a, d)
    }};
}

/// Dispatches after the `JMP` at `$pc`, taken.
macro_rules! jump {
    ($pc:expr, $base:expr, $k:expr, $vm:expr) => {{
        let j = *($pc as *const u16).add(1) as usize;
        next!($pc.add(1).add(j).sub(0x8000), $base, $k, $vm)
    }};
}

/// Defines a handler.
macro_rules! op {
    ($(#[$m:meta])* $name:ident |$pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident| $body:block) => {
        $(#[$m])*
        #[allow(non_snake_case, unused_variables)]
        pub(crate) unsafe extern "C" fn $name(
            $pc: *const u32,
            $base: *mut $crate::value::Value,
            $k: *const $crate::value::Value,
            $vm: *mut $crate::state::Vm,
            $a: usize,
            $d: usize,
        ) -> usize {
            // SAFETY: `pc` points into code that the compiler made or the verifier accepted, so operands lie
            // inside the frame, the constants and the upvalues; the frame was grown to its size at the header.
            unsafe { $body }
        }
    };
}

/// Defines a wrapper around a helper `fn(&mut Vm, a, d) -> Result<Act, Raised>`: stores pc and base, calls,
/// and goes on as the act says.
macro_rules! helper {
    ($(#[$m:meta])* $name:ident = $body:path) => {
        $(#[$m])*
        #[inline(never)]
        pub(crate) unsafe extern "C" fn $name(
            pc: *const u32,
            base: *mut $crate::value::Value,
            _k: *const $crate::value::Value,
            vm: *mut $crate::state::Vm,
            a: usize,
            d: usize,
        ) -> usize {
            #[inline(never)]
            fn run(vm: &mut $crate::state::Vm, a: usize, d: usize) -> usize {
                match $body(vm, a, d) {
                    Ok(act) if act != $crate::interp::dispatch::NATIVE => act,
                    r => $crate::interp::settle(vm, r),
                }
            }
            // SAFETY: `vm` is the only reference to the VM while a helper runs; see `op!` for the rest.
            unsafe {
                (*vm).pc = pc;
                (*(*vm).cur.as_ptr()).base = base;
                let act = run(&mut *vm, a, d);
                resume!(vm, act)
            }
        }
    };
}

/// Goes on as an act says.
macro_rules! resume {
    ($vm:expr, $act:expr) => {{
        let act = $act;
        if act == $crate::interp::dispatch::NEXT {
            let pc = (*$vm).pc;
            let base = (*(*$vm).cur.as_ptr()).base;
            let k = $crate::interp::dispatch::constants(base);
            next!(pc, base, k, $vm)
        }
        if act == $crate::interp::dispatch::CALL {
            let base = (*(*$vm).cur.as_ptr()).base;
            let d = (*$vm).call_nargs + 1;
            enter_func!(base, $vm, d)
        }
        return act;
    }};
}

/// Dispatches the header of the function below `$base`; `$d` is the number of arguments plus one. A header finds its
/// constants itself: a handler hands over the ones it has, which costs nothing.
macro_rules! enter_func {
    ($base:expr, $vm:expr, $d:expr) => {
        enter_func!($base, std::ptr::null(), $vm, $d)
    };
    ($base:expr, $k:expr, $vm:expr, $d:expr) => {{
        let f = $crate::interp::dispatch::func_ptr(*$base.sub(2));
        let at = (*f).pc as *const u8;
        let op = *at as usize;
        let a = *at.add(1) as usize;
        let h = *($vm as *const $crate::state::Handler).add(op);
        tail!(h, (at as *const u32).add(1), $base, $k, $vm, a, $d)
    }};
}

/// A store in a copy or fill loop of a handler. Volatile, so that the loop stays a loop: a call of `memset` or
/// `memmove` in its place, or vector code, would cost every execution of the handler its saved registers.
///
/// # Safety
/// `p` is a slot of the current stack.
#[inline(always)]
pub(crate) unsafe fn put(p: *mut Value, v: Value) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_volatile(p, v) }
}

/// The function object in a value known to be one.
#[inline(always)]
pub(crate) fn func_ptr(v: Value) -> *const crate::function::closure::Func {
    (v.0 & tag::PAYLOAD_MASK) as *const crate::function::closure::Func
}

/// The constants of the Lua function whose frame starts at `base`.
///
/// # Safety
/// `base` is the base of a frame; for a native's frame the result must not be used.
#[inline(always)]
pub(crate) unsafe fn constants(base: *const Value) -> *const Value {
    // SAFETY: `base[-2]` is the frame's function, and a Lua closure has a prototype.
    unsafe {
        let f = func_ptr(*base.sub(2)) as *const LuaFunc;
        (*(*f).proto.as_ptr()).k
    }
}

/// Enters the interpreter; returns when an act leaves the run.
///
/// # Safety
/// The VM's current frame is as `act` needs it.
pub(crate) unsafe fn enter(vm: *mut Vm, act: Act) -> Act {
    #[cfg(not(any(miri, feature = "loop")))]
    #[inline(never)]
    unsafe extern "C" fn go(vm: *mut Vm, act: Act) -> Act {
        // SAFETY: the caller's promise.
        unsafe { resume!(vm, act) }
    }
    #[cfg(any(miri, feature = "loop"))]
    unsafe extern "C" fn go(vm: *mut Vm, act: Act) -> Act {
        unsafe extern "C" fn first(vm: *mut Vm, act: Act) -> Act {
            // SAFETY: the caller's promise.
            unsafe { resume!(vm, act) }
        }
        // SAFETY: the caller's promise; a bounce holds the arguments of a valid tail call.
        unsafe {
            let mut r = first(vm, act);
            while r == BOUNCE {
                let b = (*vm).bounce;
                r = (b.f)(b.pc, b.base, b.k, vm, b.a, b.d);
            }
            r
        }
    }
    // SAFETY: the caller's promise.
    unsafe { go(vm, act) }
}

/// What helpers answer.
pub(crate) type HelperResult = Result<Act, Raised>;

pub(crate) use {enter_func, helper, jump, next, op, resume, tail};
