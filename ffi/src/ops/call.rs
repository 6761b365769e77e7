//! Calling C functions with Lua values.

use std::rc::Rc;

use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::FastCall;
use moonlit_vm::state::native::Raised;
use moonlit_vm::string::Str;
use moonlit_vm::value::{Value, tag};

use crate::call::{ArgSlot, CallBuffer, PassBy, Prepared, promote};
use crate::cdata::{access, as_cdata, new_bytes, place};
use crate::convert::{self, ConvertError, Flags};
use crate::ctype::{CTypeId, CTypeTable, Kind};
use crate::state::Ffi;

/// The function an object can be called as: its type and address. Pointers to functions count.
pub fn callee(vm: &Vm, ffi: &Ffi, cd: Gc<Cdata>) -> Option<(CTypeId, usize)> {
    let types = ffi.types.borrow();
    let p = place(vm, &types, cd);
    if access::is_null(p.addr) {
        return None;
    }
    match types.kind(p.ty) {
        Kind::Func(_) => Some((p.ty, access::load_pointer(p.addr, 8))),
        Kind::Ptr { to, bytes } if matches!(types.kind(to), Kind::Func(_)) => {
            Some((to, access::load_pointer(p.addr, bytes)))
        }
        _ => None,
    }
}

/// Type that an argument after `...` is passed as.
fn vararg_type(vm: &Vm, ffi: &Ffi, v: Value) -> CTypeId {
    if v.is_num() {
        return CTypeId::DOUBLE;
    }
    if let Some(cd) = as_cdata(v) {
        let (ty, kind) = {
            let types = ffi.types.borrow();
            let p = place(vm, &types, cd);
            (p.ty, types.kind(p.ty))
        };
        return match kind {
            Kind::Array { elem, .. } => ffi.types.borrow_mut().ptr_to(elem),
            Kind::Record(_) | Kind::Func(_) => ffi.types.borrow_mut().ptr_to(ty),
            _ => promote(&ffi.types.borrow(), ty),
        };
    }
    if v.as_obj::<Str>().is_some() {
        return CTypeId::P_CCHAR;
    }
    if v.is_bool() { CTypeId::INT32 } else { CTypeId::P_VOID }
}

fn prepare(vm: &mut Vm, ffi: &Ffi, id: CTypeId, first: usize) -> Result<Rc<Prepared>, Raised> {
    let given = vm.nargs() - first;
    let (declared, variadic) = {
        let types = ffi.types.borrow();
        types.signature(id).map_or((0, false), |f| (f.params.len(), f.variadic))
    };
    if given < declared || (given > declared && !variadic) {
        return Err(vm.throw_str(b"wrong number of arguments for function call"));
    }
    let prepared = if variadic {
        let extra: Vec<CTypeId> =
            (declared..given).map(|i| vararg_type(vm, ffi, vm.arg(first + i))).collect();
        ffi.prepared_variadic(&ffi.types.borrow(), id, &extra)
    } else {
        ffi.prepared(&ffi.types.borrow(), id)
    };
    prepared.map_err(|_| vm.throw_str(b"NYI: cannot call this C function (yet)"))
}

/// Arguments of a call that goes through registers only.
const WORDS_MAX: usize = 14;

/// One argument as a word.
#[inline]
fn word_of(vm: &Vm, ffi: &Ffi, types: &CTypeTable, slot: &ArgSlot, v: Value) -> Result<u64, ConvertError> {
    if let Some(n) = v.as_num() {
        match (slot.pass, types.kind(slot.ty)) {
            (PassBy::F64, _) => return Ok(n.to_bits()),
            (PassBy::Int { bytes: 4, signed: true }, Kind::Int { .. }) => {
                return Ok(convert::num_to_i64(n) as i32 as i64 as u64);
            }
            (PassBy::Int { bytes: 8, .. }, Kind::Int { unsigned: true, .. }) => {
                return Ok(convert::num_to_u64(n));
            }
            _ => {}
        }
    }
    let mut word = [0u8; 8];
    let addr = word.as_mut_ptr() as usize;
    convert::to_c(vm, ffi, types, slot.ty, addr, v, Flags::default())?;
    Ok(match slot.pass {
        PassBy::Int { bytes, signed: true } => access::load_int(addr, bytes) as u64,
        PassBy::Int { bytes, signed: false } => access::load_uint(addr, bytes),
        _ => access::load_uint(addr, 8),
    })
}

fn call_words(
    vm: &mut Vm,
    ffi: &Ffi,
    prepared: &Prepared,
    address: usize,
    first: usize,
) -> Result<Value, Raised> {
    let mut words = [0u64; WORDS_MAX];
    let n = prepared.args.len();
    {
        let types = ffi.types.borrow();
        for (i, slot) in prepared.args.iter().enumerate() {
            match word_of(vm, ffi, &types, slot, vm.arg(first + i)) {
                Ok(word) => words[i] = word,
                Err(e) => {
                    drop(types);
                    return Err(refused(vm, i, &e));
                }
            }
        }
    }
    run_words(vm, ffi, prepared, address, &words[..n])
}

/// Lua's output comes before that of the C function.
#[inline]
fn before_call(vm: &Vm, ffi: &Ffi) {
    if ffi.shares_stdout.get() {
        moonlit_vm::lib::io::flush_stdout(vm);
    }
}

#[inline]
fn run_words(
    vm: &mut Vm,
    ffi: &Ffi,
    prepared: &Prepared,
    address: usize,
    words: &[u64],
) -> Result<Value, Raised> {
    // A callback finds the VM here; this function does not touch it until the call is over.
    before_call(vm, ffi);
    let outer = ffi.calling_vm.replace(vm);
    let mut errno = ffi.errno.get();
    let word = prepared.invoke_words(address, words, &mut errno);
    ffi.errno.set(errno);
    ffi.calling_vm.set(outer);
    if let Some(error) = ffi.callback_error.take() {
        return Err(vm.throw(error));
    }
    if prepared.ret == PassBy::Nothing {
        return Ok(Value::NIL);
    }
    Ok(convert::from_c(vm, ffi, prepared.ret_ty, word.to_ne_bytes().as_ptr() as usize))
}

/// Calls a C function directly with `values`, if that needs no more than registers and cannot fail before the call.
pub fn call_directly(vm: &mut Vm, ffi: &Ffi, id: CTypeId, address: usize, values: &[Value]) -> FastCall {
    let Ok(prepared) = ffi.prepared(&ffi.types.borrow(), id) else { return FastCall::No };
    if !prepared.takes_words() || address == 0 || values.len() != prepared.args.len() {
        return FastCall::No;
    }
    let mut words = [0u64; WORDS_MAX];
    {
        let types = ffi.types.borrow();
        for ((word, slot), v) in words.iter_mut().zip(&prepared.args).zip(values) {
            // A function would become a callback, and once more on the way that reports errors.
            if v.tag() == tag::FUNC {
                return FastCall::No;
            }
            match word_of(vm, ffi, &types, slot, *v) {
                Ok(w) => *word = w,
                Err(_) => return FastCall::No,
            }
        }
    }
    match run_words(vm, ffi, &prepared, address, &words[..values.len()]) {
        Err(e) => FastCall::Raised(e),
        Ok(_) if prepared.ret == PassBy::Nothing => FastCall::Nothing,
        Ok(v) => FastCall::One(v),
    }
}

fn refused(vm: &mut Vm, i: usize, e: &ConvertError) -> Raised {
    match e {
        ConvertError::Cannot(text) => vm.arg_error(i, text),
        ConvertError::Other(text) => vm.throw_str(text),
    }
}

/// Calls the C function of type `id` at `address` with the native's arguments from `first` on. `nil` for `void`.
///
/// Raises for a wrong number of arguments and for arguments that cannot be converted; and the error of a callback that ran
/// meanwhile.
pub fn call(vm: &mut Vm, ffi: &Ffi, id: CTypeId, address: usize, first: usize) -> Result<Value, Raised> {
    let prepared = prepare(vm, ffi, id, first)?;
    if prepared.takes_words() && address != 0 {
        return call_words(vm, ffi, &prepared, address, first);
    }
    let mut args = CallBuffer::new(prepared.buffer_bytes as usize);
    let base = args.as_mut_ptr();
    {
        let types = ffi.types.borrow();
        for (i, slot) in prepared.args.iter().enumerate() {
            let v = vm.arg(first + i);
            let dst = base as usize + slot.offset as usize;
            // Smaller integers leave the rest of their word alone.
            access::store_int(dst, 8, 0);
            if let Err(e) = convert::to_c(vm, ffi, &types, slot.ty, dst, v, Flags::default()) {
                drop(types);
                return Err(refused(vm, i, &e));
            }
        }
    }
    if address == 0 {
        return Err(vm.throw_str(b"attempt to call a NULL function pointer"));
    }
    let mut result = CallBuffer::new((prepared.ret_bytes as usize).max(16));
    // A callback finds the VM here; this function does not touch it until the call is over.
    before_call(vm, ffi);
    let outer = ffi.calling_vm.replace(vm);
    let mut errno = ffi.errno.get();
    prepared.invoke(address, &mut args, &mut result, &mut errno);
    ffi.errno.set(errno);
    ffi.calling_vm.set(outer);
    if let Some(error) = ffi.callback_error.take() {
        return Err(vm.throw(error));
    }
    let from = result.as_mut_ptr() as usize;
    Ok(match prepared.ret {
        PassBy::Nothing => Value::NIL,
        PassBy::Int { .. } | PassBy::F32 | PassBy::F64 => convert::from_c(vm, ffi, prepared.ret_ty, from),
        PassBy::Other => {
            let types = ffi.types.borrow();
            new_bytes(vm, &types, prepared.ret_ty, from, prepared.ret_bytes)
        }
    })
}
