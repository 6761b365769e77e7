//! Calling C functions with Lua values.

use std::cell::Cell;
use std::rc::Rc;

use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::FastCall;
use moonlit_vm::state::native::Raised;
use moonlit_vm::string::Str;
use moonlit_vm::value::{Value, tag};

use crate::call::{
    Accepts, ArgSlot, CallBuffer, Direct, ObjectWord, Param, PassBy, Prepared, Registers, Returns, promote,
};
use crate::cdata::{access, as_cdata, new_bytes, place, raw_place};
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
pub fn vararg_type(vm: &Vm, ffi: &Ffi, v: Value) -> CTypeId {
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

/// Why a C function was not called.
pub enum NotMade {
    /// Too few or too many arguments.
    Count,
    /// A signature that cannot be called.
    Unsupported,
    /// An argument that does not convert.
    Argument(usize, ConvertError),
    /// A NULL pointer.
    Null,
}

fn prepare(vm: &Vm, ffi: &Ffi, id: CTypeId, values: &[Value]) -> Result<Rc<Prepared>, NotMade> {
    let (declared, variadic) = {
        let types = ffi.types.borrow();
        types.signature(id).map_or((0, false), |f| (f.params.len(), f.variadic))
    };
    if values.len() < declared || (values.len() > declared && !variadic) {
        return Err(NotMade::Count);
    }
    let prepared = if variadic {
        let extra: Vec<CTypeId> = values[declared..].iter().map(|v| vararg_type(vm, ffi, *v)).collect();
        ffi.prepared_variadic(&ffi.types.borrow(), id, &extra)
    } else {
        ffi.prepared(&ffi.types.borrow(), id)
    };
    prepared.map_err(|_| NotMade::Unsupported)
}

/// What each parameter of a signature takes without a general conversion.
fn describe(types: &CTypeTable, prepared: Rc<Prepared>) -> Direct {
    let params = prepared.args.iter().map(|slot| describe_param(types, slot)).collect();
    let returns = match (prepared.ret, types.kind(prepared.ret_ty)) {
        (PassBy::Nothing, _) => Returns::Nothing,
        (_, Kind::Bool) => Returns::Bool,
        (PassBy::Int { bytes: ..=4, signed: true }, Kind::Int { .. }) => Returns::Int,
        (PassBy::Int { bytes: ..=4, signed: false }, Kind::Int { .. }) => Returns::Uint,
        (PassBy::Int { bytes: 8, .. }, Kind::Int { .. } | Kind::Ptr { bytes: 8, .. }) => {
            Returns::Object(prepared.ret_ty.raw())
        }
        (PassBy::F32, Kind::Float { .. }) => Returns::F32,
        (PassBy::F64, Kind::Float { .. }) => Returns::F64,
        _ => Returns::Other,
    };
    Direct { prepared, params, returns }
}

fn describe_param(types: &CTypeTable, slot: &ArgSlot) -> Param {
    let accepts = match (slot.pass, types.kind(slot.ty)) {
        (PassBy::F32, Kind::Float { .. }) => Accepts::F32,
        (PassBy::F64, Kind::Float { .. }) => Accepts::F64,
        (PassBy::Int { bytes, signed }, Kind::Int { .. }) => Accepts::Int { bytes, signed },
        (PassBy::Int { bytes: 8, .. }, Kind::Ptr { .. }) => Accepts::Pointer,
        _ => Accepts::Other,
    };
    let mut word = [0u8; 8];
    let text = c"".as_ptr() as usize;
    let flags = Flags { from_lua: true, ..Flags::default() };
    let strings = accepts == Accepts::Pointer
        && convert::c_to_c(types, slot.ty, word.as_mut_ptr() as usize, CTypeId::A_CCHAR, text, flags).is_ok();
    let float = matches!(slot.pass, PassBy::F32 | PassBy::F64);
    Param { accepts, float, strings, object: Cell::new((0, ObjectWord::Payload)) }
}

/// One argument as a word, if that takes no general conversion.
#[inline]
fn quick_word(vm: &Vm, p: &Param, v: Value) -> Option<u64> {
    if let Some(n) = v.as_num() {
        return Some(match p.accepts {
            Accepts::F64 => n.to_bits(),
            Accepts::Int { bytes: 8, signed: false } => convert::num_to_u64(n),
            Accepts::Int { bytes, signed } => {
                let bits = convert::num_to_i64(n);
                let shift = 64 - 8 * u32::from(bytes);
                if signed { (bits << shift >> shift) as u64 } else { (bits as u64) << shift >> shift }
            }
            Accepts::F32 => u64::from((n as f32).to_bits()),
            Accepts::Pointer | Accepts::Other => return None,
        });
    }
    if let Some(cd) = as_cdata(v) {
        let own = raw_place(vm, cd);
        let (known, how) = p.object.get();
        return match how {
            _ if known != own.ty.raw() => None,
            ObjectWord::Address => Some(own.addr as u64),
            ObjectWord::Payload => Some(access::load_uint(own.addr, 8)),
        };
    }
    if p.strings
        && let Some(s) = v.as_obj::<Str>()
    {
        return Some(s.bytes(&vm.heap).as_ptr() as u64);
    }
    (p.accepts == Accepts::Pointer && v.is_nil()).then_some(0)
}

/// One argument as a word. What was learnt about objects of its type is remembered.
fn word_of(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    (slot, p): (&ArgSlot, &Param),
    v: Value,
) -> Result<u64, ConvertError> {
    let mut word = [0u8; 8];
    let addr = word.as_mut_ptr() as usize;
    convert::to_c(vm, ffi, types, slot.ty, addr, v, Flags::default())?;
    if let Some(cd) = as_cdata(v) {
        let own = raw_place(vm, cd).ty;
        let how = match (p.accepts, types.kind(own)) {
            (Accepts::Pointer, Kind::Array { .. } | Kind::Record(_)) => Some(ObjectWord::Address),
            (Accepts::Pointer, Kind::Ptr { bytes: 8, .. }) => Some(ObjectWord::Payload),
            (Accepts::Pointer, Kind::Ref { to }) => {
                matches!(types.kind(to), Kind::Array { .. } | Kind::Record(_)).then_some(ObjectWord::Payload)
            }
            (Accepts::Int { bytes: 8, .. }, Kind::Int { bytes: 8, .. }) => Some(ObjectWord::Payload),
            _ => None,
        };
        if let Some(how) = how {
            p.object.set((own.raw(), how));
        }
    }
    Ok(match slot.pass {
        PassBy::Int { bytes, signed: true } => access::load_int(addr, bytes) as u64,
        PassBy::Int { bytes, signed: false } => access::load_uint(addr, bytes),
        PassBy::F32 => access::load_uint(addr, 4),
        _ => access::load_uint(addr, 8),
    })
}

/// Lua's output comes before that of the C function.
#[inline]
fn before_call(vm: &Vm, ffi: &Ffi) {
    if ffi.shares_stdout.get() {
        moonlit_vm::lib::io::flush_stdout(vm);
    }
}

/// Makes the call; `None` for a function without a result.
#[inline]
fn run(
    vm: &mut Vm,
    ffi: &Ffi,
    direct: &Direct,
    address: usize,
    registers: &Registers,
) -> Result<Option<Value>, Raised> {
    // A callback finds the VM here; this function does not touch it until the call is over.
    before_call(vm, ffi);
    let outer = ffi.calling_vm.replace(vm);
    let mut errno = ffi.errno.get();
    let word = direct.prepared.invoke_registers(address, registers, &mut errno);
    ffi.errno.set(errno);
    ffi.calling_vm.set(outer);
    if let Some(error) = ffi.callback_error.take() {
        return Err(vm.throw(error));
    }
    Ok(Some(match direct.returns {
        Returns::Nothing => return Ok(None),
        Returns::Int => Value::num(word as i64 as f64),
        Returns::Uint => Value::num(word as f64),
        Returns::F64 => Value::num(f64::from_bits(word)),
        Returns::F32 => Value::num(f64::from(f32::from_bits(word as u32))),
        Returns::Bool => Value::bool(word as u8 != 0),
        Returns::Object(id) => Value::obj(vm.heap.new_int64(id, word)),
        Returns::Other => {
            let ty = direct.prepared.ret_ty;
            convert::from_c(vm, ffi, ty, word.to_ne_bytes().as_ptr() as usize)
        }
    }))
}

/// How an object of type `id` is called with words, if it is a function or a pointer to one whose arguments are words.
fn find_direct(ffi: &Ffi, id: CTypeId) -> Option<Rc<Direct>> {
    let types = ffi.types.borrow();
    let func = match types.kind(id) {
        Kind::Func(_) => id,
        Kind::Ptr { to, bytes: 8 } if matches!(types.kind(to), Kind::Func(_)) => to,
        _ => return None,
    };
    let prepared = ffi.prepared(&types, func).ok()?;
    if !prepared.takes_words() {
        return None;
    }
    let direct = Rc::new(describe(&types, prepared));
    ffi.remember_direct(id, direct.clone());
    Some(direct)
}

/// Calls a C function object directly with `values`, if that needs no more than registers and cannot fail before the call.
pub fn call_directly(vm: &mut Vm, ffi: &Ffi, cd: Gc<Cdata>, values: &[Value]) -> FastCall {
    let own = raw_place(vm, cd);
    if ffi.made.at.get() != 0
        && let Some(done) = take_made(vm, ffi, own.ty, vm.top().wrapping_sub(values.len()))
    {
        return match done {
            Err(e) => FastCall::Raised(e),
            Ok(None) => FastCall::Nothing,
            Ok(Some(v)) => FastCall::One(v),
        };
    }
    let Some(direct) = ffi.direct(own.ty).or_else(|| find_direct(ffi, own.ty)) else { return FastCall::No };
    let address = access::load_pointer(own.addr, 8);
    if address == 0 || values.len() != direct.params.len() {
        return FastCall::No;
    }
    let mut registers = Registers::new();
    for (i, (p, v)) in direct.params.iter().zip(values).enumerate() {
        let word = match quick_word(vm, p, *v) {
            Some(word) => word,
            // A function would become a callback, and once more on the way that reports errors.
            None if v.tag() == tag::FUNC => return FastCall::No,
            None => {
                let slot = &direct.prepared.args[i];
                match word_of(vm, ffi, &ffi.types.borrow(), (slot, p), *v) {
                    Ok(word) => word,
                    Err(_) => return FastCall::No,
                }
            }
        };
        registers.push(p.float, word);
    }
    match run(vm, ffi, &direct, address, &registers) {
        Err(e) => FastCall::Raised(e),
        Ok(None) => FastCall::Nothing,
        Ok(Some(v)) => FastCall::One(v),
    }
}

/// The result of a call that compiled code has made, if it is the one with its arguments at `first`: the error of a callback,
/// or what the function of type `id` (or a pointer to one) gave, `None` for `void`.
#[cold]
fn take_made(
    vm: &mut Vm,
    ffi: &Ffi,
    id: CTypeId,
    first: *const Value,
) -> Option<Result<Option<Value>, Raised>> {
    if ffi.made.at.get() != first as u64 {
        return None;
    }
    ffi.made.at.set(0);
    let value = ffi.made.value.take();
    if let Some(error) = ffi.callback_error.take() {
        return Some(Err(vm.throw(error)));
    }
    let ret = {
        let types = ffi.types.borrow();
        let func = match types.kind(id) {
            Kind::Ptr { to, .. } => to,
            _ => id,
        };
        types.signature(func).map(|f| f.ret).filter(|r| types.kind(*r) != Kind::Void)
    };
    Some(Ok(ret.map(|ret| {
        value.unwrap_or_else(|| {
            let word = ffi.made.word.get().to_ne_bytes();
            convert::from_c(vm, ffi, ret, word.as_ptr() as usize)
        })
    })))
}

/// Values that need no allocation.
const INLINE_VALUES: usize = 16;

/// Calls the C function of type `id` at `address` with the native's arguments from `first` on. `nil` for `void`.
///
/// Raises for a wrong number of arguments and for arguments that cannot be converted; and the error of a callback that ran
/// meanwhile.
pub fn call(vm: &mut Vm, ffi: &Ffi, id: CTypeId, address: usize, first: usize) -> Result<Value, Raised> {
    if ffi.made.at.get() != 0
        && let Some(done) = take_made(vm, ffi, id, vm.base())
    {
        return done.map(|v| v.unwrap_or(Value::NIL));
    }
    let given = vm.nargs() - first;
    let mut few = [Value::NIL; INLINE_VALUES];
    let mut many = Vec::new();
    let values = if given <= INLINE_VALUES {
        &mut few[..given]
    } else {
        many.resize(given, Value::NIL);
        &mut many[..]
    };
    for (i, v) in values.iter_mut().enumerate() {
        *v = vm.arg(first + i);
    }
    match make(vm, ffi, id, address, values) {
        Ok(v) => match ffi.callback_error.take() {
            Some(error) => Err(vm.throw(error)),
            None => Ok(v),
        },
        Err(NotMade::Count) => Err(vm.throw_str(b"wrong number of arguments for function call")),
        Err(NotMade::Unsupported) => Err(vm.throw_str(b"NYI: cannot call this C function (yet)")),
        Err(NotMade::Argument(i, ConvertError::Cannot(text))) => Err(vm.arg_error(i, &text)),
        Err(NotMade::Argument(_, ConvertError::Other(text))) => Err(vm.throw_str(&text)),
        Err(NotMade::Null) => Err(vm.throw_str(b"attempt to call a NULL function pointer")),
    }
}

/// Calls the C function of type `id` at `address` with `values`, which are on the stack too. `nil` for `void`. The error of a
/// callback that ran meanwhile is left pending.
pub fn make(vm: &mut Vm, ffi: &Ffi, id: CTypeId, address: usize, values: &[Value]) -> Result<Value, NotMade> {
    let prepared = prepare(vm, ffi, id, values)?;
    let mut args = CallBuffer::new(prepared.buffer_bytes as usize);
    let base = args.as_mut_ptr();
    {
        let types = ffi.types.borrow();
        for (i, slot) in prepared.args.iter().enumerate() {
            let dst = base as usize + slot.offset as usize;
            // Smaller integers leave the rest of their word alone.
            access::store_int(dst, 8, 0);
            convert::to_c(vm, ffi, &types, slot.ty, dst, values[i], Flags::default())
                .map_err(|e| NotMade::Argument(i, e))?;
        }
    }
    if address == 0 {
        return Err(NotMade::Null);
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
        ffi.callback_error.set(Some(error));
        return Ok(Value::NIL);
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
