//! C calls that compiled code leaves to the ffi: what does not travel in registers, and what only the general conversion knows.
//!
//! Compiled code has written the frames back before it comes here, so that a callback finds the stack as the interpreter
//! leaves it. When the call cannot be made, or a callback ran, `callbacks_run` differs from what it was: compiled code then
//! leaves to the interpreter, which makes the call (and finds the error), or takes the result that is kept for it.

use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

use crate::cdata::{access, as_cdata, raw_place};
use crate::ctype::Kind;
use crate::lib_new;
use crate::meta;
use crate::ops::call;
use crate::state::Ffi;

/// Most arguments that compiled code passes.
pub const ARGS_MAX: usize = 8;

/// Makes the call; `None` where compiled code has to leave.
///
/// # Safety
/// As for [`call_word`].
unsafe fn call_general(
    ffi: *const Ffi,
    vm: *mut Vm,
    object: Value,
    args: *const Value,
    n: u64,
) -> Option<Value> {
    // SAFETY: promised by the caller.
    let (ffi, vm) = unsafe { (&*ffi, &mut *vm) };
    let before = ffi.callbacks_run.get();
    let n = (n as usize).min(ARGS_MAX);
    let mut values = [Value::NIL; ARGS_MAX];
    for (i, v) in values[..n].iter_mut().enumerate() {
        // SAFETY: promised by the caller: `n` values lie there.
        *v = unsafe { *args.add(i) };
    }
    let cd = as_cdata(object)?;
    let made = call::callee(vm, ffi, cd)
        .ok_or(call::NotMade::Null)
        .and_then(|(id, address)| call::make(vm, ffi, id, address, &values[..n]));
    match made {
        Err(_) => {
            // The interpreter makes the call again and tells what is wrong.
            ffi.callbacks_run.set(before.wrapping_add(1));
            None
        }
        Ok(v) if ffi.callbacks_run.get() != before => {
            // The stack may lie elsewhere now.
            ffi.made.at.set(vm.top().wrapping_sub(n) as u64);
            ffi.made.value.set(Some(v));
            None
        }
        Ok(v) => Some(v),
    }
}

/// A call whose result is a word (an integer, a boolean), an object, or nothing. Of an object that is a 64-bit integer or a
/// pointer it answers the word, of any other the address.
///
/// # Safety
/// - `ffi` and `vm` are alive and belong together, and nobody else uses them until this returns.
/// - `object` is a live C data object.
/// - `args` are `n` values on the stack of the running coroutine, just below its top.
pub unsafe extern "C" fn call_word(
    ffi: *const Ffi,
    vm: *mut Vm,
    object: Value,
    args: *const Value,
    n: u64,
) -> u64 {
    // SAFETY: passed on from the caller.
    let Some(v) = (unsafe { call_general(ffi, vm, object, args, n) }) else { return 0 };
    if let Some(n) = v.as_num() {
        // An integer of at most 32 bits.
        return n as i64 as u64;
    }
    let Some(cd) = as_cdata(v) else { return u64::from(v == Value::TRUE) };
    // SAFETY: as above; the call is over.
    let (ffi, vm) = unsafe { (&*ffi, &*vm) };
    let own = raw_place(vm, cd);
    match ffi.types.borrow().kind(own.ty) {
        Kind::Int { bytes: 8, .. } | Kind::Ptr { bytes: 8, .. } => access::load_uint(own.addr, 8),
        Kind::Enum(_) => access::load_uint(own.addr, 4),
        _ => cd.addr(),
    }
}

/// A call whose result is a number with a fraction.
///
/// # Safety
/// As for [`call_word`].
pub unsafe extern "C" fn call_double(
    ffi: *const Ffi,
    vm: *mut Vm,
    object: Value,
    args: *const Value,
    n: u64,
) -> f64 {
    // SAFETY: passed on from the caller.
    unsafe { call_general(ffi, vm, object, args, n) }.and_then(Value::as_num).unwrap_or(0.0)
}

/// `ffi.gc`: gives an object a finalizer, or takes it away. The finalizer is `tag` and `address` put together.
///
/// # Safety
/// `ffi` and `vm` are alive and belong together; `object` is a live C data object and the finalizer a live value or nil.
pub unsafe extern "C" fn set_finalizer(ffi: *const Ffi, vm: *mut Vm, object: u64, tag: u64, address: u64) {
    // SAFETY: promised by the caller.
    let (ffi, vm) = unsafe { (&*ffi, &mut *vm) };
    if let Some(cd) = Gc::from_addr(object) {
        lib_new::set_finalizer(vm, ffi, cd, Value(tag | address));
    }
}

/// `tostring` of an object whose metatype has nothing to say about it: the address of the string.
///
/// # Safety
/// `ffi` and `vm` are alive and belong together; `object` is a live C data object.
pub unsafe extern "C" fn to_text(ffi: *const Ffi, vm: *mut Vm, object: u64) -> u64 {
    // SAFETY: promised by the caller.
    let (ffi, vm) = unsafe { (&*ffi, &mut *vm) };
    let text = Gc::from_addr(object).map(|cd| meta::text(vm, &ffi.types.borrow(), cd)).unwrap_or_default();
    vm.heap.str(&text).addr()
}
