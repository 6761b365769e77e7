//! The base metatable of C data, and what the VM asks about C data.
//!
//! Each metamethod first tries what C data can do by itself, then the metatype.

use std::any::Any;
use std::rc::Rc;

use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::{CdataHooks, FastCall, Packed};
use moonlit_vm::state::native::{Entry, NativeResult, NativeRow, Outcome, Raised};
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::value::{Value, number, tag};

use crate::cdata::access::{self, Scalar};
use crate::cdata::{as_cdata, place, raw_place, type_object};
use crate::ctype::name::type_name;
use crate::ctype::{CTypeId, CTypeTable, Kind};
use crate::lib_new;
use crate::ops::{arith, call, index};
use crate::state::Ffi;

/// Longest chain of `__index` tables.
const INDEX_CHAIN_MAX: usize = 100;

/// The VM's view of the ffi.
pub struct Hooks(pub Rc<Ffi>);

/// The ffi of a VM. Raises if there is none.
#[inline]
pub fn ffi_of(vm: &mut Vm) -> Result<Rc<Ffi>, Raised> {
    match vm.cdata.as_ref().and_then(|h| h.as_any().downcast_ref::<Hooks>()) {
        Some(hooks) => Ok(hooks.0.clone()),
        None => Err(vm.throw_str(b"the ffi is not open in this VM")),
    }
}

impl CdataHooks for Hooks {
    fn to_number(&self, vm: &Vm, cd: Value) -> Option<f64> {
        let types = self.0.types.borrow();
        let p = place(vm, &types, as_cdata(cd)?);
        if access::is_null(p.addr) {
            return None;
        }
        let kind = match types.enumeration(p.ty) {
            Some(e) => types.kind(e.base),
            None => types.kind(p.ty),
        };
        if let Kind::Complex { bytes } = kind {
            return Some(access::load_float(p.addr, bytes / 2));
        }
        Some(match access::load_scalar(kind, p.addr)? {
            Scalar::Int(v) => v as f64,
            Scalar::Uint(v) => v as f64,
            Scalar::Float(v) => v,
        })
    }

    fn to_bits64(&self, vm: &Vm, cd: Value) -> Option<(u64, bool)> {
        let types = self.0.types.borrow();
        let p = place(vm, &types, as_cdata(cd)?);
        if access::is_null(p.addr) {
            return None;
        }
        let kind = match types.enumeration(p.ty) {
            Some(e) => types.kind(e.base),
            None => types.kind(p.ty),
        };
        Some(match access::load_scalar(kind, p.addr)? {
            Scalar::Int(v) => (v as u64, false),
            Scalar::Uint(v) => (v, matches!(kind, Kind::Int { bytes: 8, .. })),
            Scalar::Float(v) => (crate::convert::num_to_i64(v) as u64, false),
        })
    }

    fn packed(&self, vm: &Vm, cd: Value) -> Option<Packed> {
        let types = self.0.types.borrow();
        let p = raw_place(vm, as_cdata(cd)?);
        match types.kind(p.ty) {
            Kind::Int { bytes: 8, unsigned: true } => Some(Packed::Uint64(access::load_uint(p.addr, 8))),
            Kind::Int { bytes: 8, unsigned: false } => Some(Packed::Int64(access::load_int(p.addr, 8))),
            Kind::Complex { bytes: 16 } => {
                Some(Packed::Complex(access::load_float(p.addr, 8), access::load_float(p.addr + 8, 8)))
            }
            _ => None,
        }
    }

    fn to_pointer(&self, vm: &Vm, cd: Value) -> Option<u64> {
        let types = self.0.types.borrow();
        let p = place(vm, &types, as_cdata(cd)?);
        match types.kind(p.ty) {
            Kind::Ptr { bytes, .. } => Some(access::load_pointer(p.addr, bytes) as u64),
            Kind::Array { .. } | Kind::Record(_) => Some(p.addr as u64),
            // Values that C would copy have no address of their own.
            _ => None,
        }
    }

    fn tostring(&self, vm: &Vm, cd: Value) -> Vec<u8> {
        match as_cdata(cd) {
            Some(cd) => text(vm, &self.0.types.borrow(), cd),
            None => b"cdata".to_vec(),
        }
    }

    fn finalizer(&mut self, cd: Value) -> Option<Value> {
        self.0.finalizers.borrow_mut().remove(&cd.payload())
    }

    fn mark_roots(&mut self, mark: &mut dyn FnMut(Value)) {
        for t in self.0.metatypes.borrow().iter().flatten() {
            mark(Value::obj(*t));
        }
        for f in self.0.finalizers.borrow().values() {
            mark(*f);
        }
        for f in self.0.callback_functions.borrow().iter() {
            mark(*f);
        }
        for v in [self.0.callback_error.get(), self.0.made.value.get()].into_iter().flatten() {
            mark(v);
        }
    }

    fn type_name(&self, vm: &Vm, cd: Value) -> Vec<u8> {
        let types = self.0.types.borrow();
        match as_cdata(cd) {
            Some(cd) => type_name(&types, raw_place(vm, cd).ty).into_bytes(),
            None => Vec::new(),
        }
    }

    #[inline]
    fn index(&self, vm: &mut Vm, cd: Value, key: Value) -> Option<Value> {
        let ffi = &*self.0;
        let cd = as_cdata(cd)?;
        let found = index::find(vm, ffi, &ffi.types.borrow(), cd, key);
        if let index::Found::Missing(ty) = found {
            // Methods and constants in a metatype's table.
            let v = meta_field(vm, ffi, ty, Mm::Index).as_obj::<Table>()?.getv(&vm.heap, key);
            return (!v.is_nil()).then_some(v);
        }
        let v = index::load(vm, ffi, found)?;
        index::remember(vm, ffi, cd, key, found);
        Some(v)
    }

    #[inline]
    fn newindex(&self, vm: &mut Vm, cd: Value, key: Value, v: Value) -> bool {
        let ffi = &*self.0;
        let Some(cd) = as_cdata(cd) else { return false };
        let types = ffi.types.borrow();
        let found = index::find(vm, ffi, &types, cd, key);
        let index::Found::Place { ty, addr, bits, read_only: false } = found else { return false };
        let stored = index::store(vm, ffi, &types, (ty, addr, bits), v).is_ok();
        drop(types);
        if stored && v.is_num() {
            index::remember(vm, ffi, cd, key, found);
        }
        stored
    }

    #[inline]
    fn arith(&self, vm: &mut Vm, mm: Mm, a: Value, b: Value) -> Option<Value> {
        match arith::apply(vm, &self.0, mm, a, b) {
            arith::Outcome::Value(v) => Some(v),
            arith::Outcome::Meta => None,
        }
    }

    fn handler(&self, vm: &mut Vm, mm: Mm, a: Value, b: Value) -> Value {
        // The left operand is asked first, unless a table or userdata there has a say of its own.
        if as_cdata(a).is_none() && matches!(a.tag(), tag::TAB | tag::UDATA) {
            return Value::NIL;
        }
        let mut f = operand_meta(vm, &self.0, a, mm);
        if f.is_nil() {
            f = operand_meta(vm, &self.0, b, mm);
        }
        if f.tag() == tag::FUNC { f } else { Value::NIL }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `tostring` of C data, without metatypes.
pub fn text(vm: &Vm, types: &CTypeTable, cd: Gc<Cdata>) -> Vec<u8> {
    if let Some(named) = type_object(vm, cd) {
        return format!("ctype<{}>", type_name(types, named)).into_bytes();
    }
    let own = raw_place(vm, cd).ty;
    let p = place(vm, types, cd);
    let address = match types.kind(p.ty) {
        _ if access::is_null(p.addr) => p.addr,
        Kind::Complex { bytes } => return complex_text(p.addr, bytes),
        Kind::Int { bytes: 8, unsigned: true } => {
            return format!("{}ULL", access::load_uint(p.addr, 8)).into_bytes();
        }
        Kind::Int { bytes: 8, unsigned: false } => {
            return format!("{}LL", access::load_int(p.addr, 8)).into_bytes();
        }
        Kind::Enum(_) => {
            let signed = types.enumeration(p.ty).is_some_and(|e| e.base == CTypeId::INT32);
            let value =
                if signed { access::load_int(p.addr, 4) } else { access::load_uint(p.addr, 4) as i64 };
            return format!("cdata<{}>: {value}", type_name(types, own)).into_bytes();
        }
        Kind::Func(_) => access::load_pointer(p.addr, 8),
        Kind::Ptr { bytes, .. } => access::load_pointer(p.addr, bytes),
        _ => p.addr,
    };
    format!("cdata<{}>: {}", type_name(types, own), pointer_text(address)).into_bytes()
}

/// An address as `%p` shows it: 8 hexadecimal digits, or as many pairs as it takes.
fn pointer_text(address: usize) -> String {
    if address == 0 {
        return "NULL".to_owned();
    }
    let high = (address as u64 >> 32) as u32;
    let digits = if high == 0 { 8 } else { 10 + 2 * (high.ilog2() as usize >> 3) };
    format!("0x{address:0digits$x}")
}

fn complex_text(addr: usize, bytes: u8) -> Vec<u8> {
    let half = bytes / 2;
    let mut out = number::to_text(access::load_float(addr, half));
    let im = access::load_float(addr + usize::from(half), half);
    if !im.is_sign_negative() || im.is_nan() {
        out.push(b'+');
    }
    out.extend_from_slice(&number::to_text(im));
    // `nan` and `inf` end in a letter already.
    out.push(if out.last().is_some_and(|&b| b >= b'a') { b'I' } else { b'i' });
    out
}

fn this(vm: &mut Vm) -> Result<Gc<Cdata>, Raised> {
    match as_cdata(vm.arg(0)) {
        Some(cd) => Ok(cd),
        None => Err(vm.type_error(0, "cdata")),
    }
}

/// A field of the metatype of `ty`; `nil` if there is none.
pub fn meta_field(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, mm: Mm) -> Value {
    let Some(t) = ffi.metatype(&ffi.types.borrow(), ty) else { return Value::NIL };
    vm.meta_field(t, mm)
}

/// The type whose metatype is responsible for an operand: through references and one pointer.
fn operand_type(vm: &Vm, types: &CTypeTable, v: Value) -> Option<CTypeId> {
    let p = place(vm, types, as_cdata(v)?);
    Some(match types.kind(p.ty) {
        Kind::Ptr { to, .. } if !matches!(types.kind(to), Kind::Func(_)) => to,
        _ => p.ty,
    })
}

fn operand_meta(vm: &mut Vm, ffi: &Ffi, v: Value, mm: Mm) -> Value {
    let ty = operand_type(vm, &ffi.types.borrow(), v);
    ty.map_or(Value::NIL, |ty| meta_field(vm, ffi, ty, mm))
}

fn tail(vm: &mut Vm, f: Value, args: &[Value]) -> NativeResult {
    vm.prepare_call(f);
    for a in args {
        vm.push(*a);
    }
    Ok(Outcome::tail_call(args.len()))
}

fn missing(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, key: Value) -> Raised {
    let types = ffi.types.borrow();
    let name = type_name(&types, ty);
    let mut message = format!("'{name}' ").into_bytes();
    if let Some(s) = key.as_obj::<Str>() {
        message.extend_from_slice(b"has no member named '");
        message.extend_from_slice(s.bytes(&vm.heap));
    } else {
        let key_name = match as_cdata(key) {
            Some(cd) => type_name(&types, raw_place(vm, cd).ty),
            None => key.type_name().to_owned(),
        };
        message.extend_from_slice(b"cannot be indexed with '");
        message.extend_from_slice(key_name.as_bytes());
    }
    message.push(b'\'');
    drop(types);
    vm.throw_str(&message)
}

fn meta_index(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let cd = this(vm)?;
    let key = vm.arg(1);
    let found = index::find(vm, &ffi, &ffi.types.borrow(), cd, key);
    if let Some(v) = index::load(vm, &ffi, found) {
        return Ok(Outcome::one(v));
    }
    let ty = match found {
        index::Found::Missing(ty) => ty,
        index::Found::UnknownSize => return Err(vm.throw_str(b"size of C type is unknown or too large")),
        index::Found::Null | index::Found::Place { .. } | index::Found::Const(_) => {
            return Err(vm.throw_str(index::NULL_FOLLOWED));
        }
    };
    let mut handler = meta_field(vm, &ffi, ty, Mm::Index);
    let mut object = vm.arg(0);
    for _ in 0..INDEX_CHAIN_MAX {
        if handler.is_nil() {
            break;
        }
        if handler.tag() == tag::FUNC {
            return tail(vm, handler, &[object, key]);
        }
        if let Some(t) = handler.as_obj::<Table>() {
            let v = t.getv(&vm.heap, key);
            if !v.is_nil() {
                return Ok(Outcome::one(v));
            }
        }
        object = handler;
        handler = vm.metamethod(object, Mm::Index);
    }
    Err(missing(vm, &ffi, ty, key))
}

fn meta_newindex(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let cd = this(vm)?;
    let (key, value) = (vm.arg(1), vm.arg(2));
    let types = ffi.types.borrow();
    let found = index::find(vm, &ffi, &types, cd, key);
    let ty = match found {
        index::Found::Place { read_only: true, .. } | index::Found::Const(_) => {
            drop(types);
            return Err(vm.throw_str(b"attempt to write to constant location"));
        }
        index::Found::Place { ty, addr, bits, .. } => {
            let stored = index::store(vm, &ffi, &types, (ty, addr, bits), value);
            drop(types);
            return match stored {
                Ok(()) => Ok(Outcome::none()),
                Err(e) => Err(vm.throw_str(e.message())),
            };
        }
        index::Found::Null => {
            drop(types);
            return Err(vm.throw_str(index::NULL_FOLLOWED));
        }
        index::Found::UnknownSize => {
            drop(types);
            return Err(vm.throw_str(b"size of C type is unknown or too large"));
        }
        index::Found::Missing(ty) => ty,
    };
    let read_only = types.quals(ty).is_const();
    drop(types);
    if read_only {
        return Err(vm.throw_str(b"attempt to write to constant location"));
    }
    let mut handler = meta_field(vm, &ffi, ty, Mm::Newindex);
    let mut object = vm.arg(0);
    for _ in 0..INDEX_CHAIN_MAX {
        if handler.is_nil() {
            break;
        }
        if handler.tag() == tag::FUNC {
            return tail(vm, handler, &[object, key, value]);
        }
        let next = vm.metamethod(handler, Mm::Newindex);
        if let Some(t) = handler.as_obj::<Table>()
            && (next.is_nil() || !t.getv(&vm.heap, key).is_nil())
        {
            return match t.setv(&mut vm.heap, key, value) {
                Ok(()) => Ok(Outcome::none()),
                Err(_) => Err(vm.throw_str(b"table index is nil or NaN")),
            };
        }
        object = handler;
        handler = next;
    }
    Err(missing(vm, &ffi, ty, key))
}

/// What an object points to, or where it lies; of a string, where its bytes are.
fn address(vm: &Vm, ffi: &Ffi, v: Value) -> Option<usize> {
    if let Some(s) = v.as_obj::<Str>() {
        return Some(s.bytes(&vm.heap).as_ptr() as usize);
    }
    let types = ffi.types.borrow();
    let p = place(vm, &types, as_cdata(v)?);
    Some(match types.kind(p.ty) {
        _ if access::is_null(p.addr) => p.addr,
        Kind::Ptr { bytes, .. } => access::load_pointer(p.addr, bytes),
        _ => p.addr,
    })
}

fn operate(vm: &mut Vm, mm: Mm) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let a = vm.arg(0);
    let b = if matches!(mm, Mm::Unm | Mm::Len) { a } else { vm.arg(1) };
    if as_cdata(a).is_none() && as_cdata(b).is_none() {
        return Err(vm.type_error(0, "cdata"));
    }
    if let arith::Outcome::Value(v) = arith::apply(vm, &ffi, mm, a, b) {
        return Ok(Outcome::one(v));
    }
    let mut handler = operand_meta(vm, &ffi, a, mm);
    if handler.is_nil() {
        handler = operand_meta(vm, &ffi, b, mm);
    }
    if !handler.is_nil() {
        return if mm == Mm::Len { tail(vm, handler, &[a]) } else { tail(vm, handler, &[a, b]) };
    }
    if mm != Mm::Eq {
        let message = arith::refusal(vm, &ffi.types.borrow(), mm, a, b);
        return Err(vm.throw_str(&message));
    }
    // The same object, be it by two references, by a pointer or by the bytes of a string.
    let same = match (address(vm, &ffi, a), address(vm, &ffi, b)) {
        (Some(x), Some(y)) => x == y,
        _ => false,
    };
    Ok(Outcome::one(Value::bool(same)))
}

/// A C function called without a frame, if its arguments go through registers.
pub fn call_directly(vm: &mut Vm, object: Value, args: &[Value]) -> FastCall {
    let hooks = vm.cdata.as_ref().and_then(|h| h.as_any().downcast_ref::<Hooks>());
    let (Some(ffi), Some(cd)) = (hooks.map(|h| h.0.clone()), as_cdata(object)) else { return FastCall::No };
    if let Some(ty) = type_object(vm, cd) {
        return construct_directly(vm, &ffi, ty, args);
    }
    call::call_directly(vm, &ffi, cd, args)
}

/// A type called without a frame, if it has no constructor of its own. Errors are found again on the way that reports them.
fn construct_directly(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, args: &[Value]) -> FastCall {
    // A function would become a callback, and once more on that way.
    if args.iter().any(|v| v.tag() == tag::FUNC) {
        return FastCall::No;
    }
    let metatype = ffi.metatype(&ffi.types.borrow(), ty);
    if let Some(t) = metatype
        && !vm.meta_field(t, Mm::New).is_nil()
    {
        return FastCall::No;
    }
    match lib_new::construct_from(vm, ffi, ty, args) {
        Some(v) => FastCall::One(v),
        None => FastCall::No,
    }
}

macro_rules! operators {
    ($($name:ident $mm:ident;)*) => {
        $(fn $name(vm: &mut Vm, _: Entry) -> NativeResult {
            operate(vm, Mm::$mm)
        })*
    };
}

operators! {
    meta_eq Eq;
    meta_len Len;
    meta_lt Lt;
    meta_le Le;
    meta_concat Concat;
    meta_add Add;
    meta_sub Sub;
    meta_mul Mul;
    meta_div Div;
    meta_mod Mod;
    meta_pow Pow;
    meta_unm Unm;
}

fn meta_call(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let cd = this(vm)?;
    let named = type_object(vm, cd);
    if named.is_none()
        && let Some((ty, address)) = call::callee(vm, &ffi, cd)
    {
        let void = {
            let types = ffi.types.borrow();
            types.signature(ty).is_some_and(|f| types.kind(f.ret) == Kind::Void)
        };
        let v = call::call(vm, &ffi, ty, address, 1)?;
        return Ok(if void { Outcome::none() } else { Outcome::one(v) });
    }
    let (ty, mm) = match named {
        Some(ty) => (ty, Mm::New),
        None => (raw_place(vm, cd).ty, Mm::Call),
    };
    let responsible = {
        let types = ffi.types.borrow();
        match types.kind(types.deref(ty)) {
            Kind::Ptr { to, .. } if !matches!(types.kind(to), Kind::Func(_)) => to,
            _ => ty,
        }
    };
    let handler = meta_field(vm, &ffi, responsible, mm);
    if !handler.is_nil() {
        let args: Vec<Value> = (0..vm.nargs()).map(|i| vm.arg(i)).collect();
        return tail(vm, handler, &args);
    }
    match named {
        Some(ty) => lib_new::construct(vm, &ffi, ty).map(Outcome::one),
        None => {
            let message = format!("'{}' is not callable", type_name(&ffi.types.borrow(), responsible));
            Err(vm.throw_str(message.as_bytes()))
        }
    }
}

fn meta_tostring(vm: &mut Vm, _: Entry) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let cd = this(vm)?;
    if type_object(vm, cd).is_none() {
        let ty = {
            let types = ffi.types.borrow();
            operand_type(vm, &types, vm.arg(0))
                .filter(|&ty| matches!(types.kind(ty), Kind::Record(_) | Kind::Vector { .. }))
        };
        if let Some(ty) = ty {
            let handler = meta_field(vm, &ffi, ty, Mm::Tostring);
            if !handler.is_nil() {
                let object = vm.arg(0);
                return tail(vm, handler, &[object]);
            }
        }
    }
    let bytes = text(vm, &ffi.types.borrow(), cd);
    Ok(Outcome::one(Value::obj(vm.heap.str(&bytes))))
}

fn iterate(vm: &mut Vm, mm: Mm) -> NativeResult {
    let ffi = ffi_of(vm)?;
    let cd = this(vm)?;
    let object = vm.arg(0);
    let handler = operand_meta(vm, &ffi, object, mm);
    if !handler.is_nil() {
        return tail(vm, handler, &[object]);
    }
    let types = ffi.types.borrow();
    let ty = operand_type(vm, &types, object).unwrap_or(raw_place(vm, cd).ty);
    let message = format!("'{}' has no '{}' metamethod", type_name(&types, ty), Mm::NAMES[mm as usize]);
    drop(types);
    Err(vm.throw_str(message.as_bytes()))
}

fn meta_pairs(vm: &mut Vm, _: Entry) -> NativeResult {
    iterate(vm, Mm::Pairs)
}

fn meta_ipairs(vm: &mut Vm, _: Entry) -> NativeResult {
    iterate(vm, Mm::Ipairs)
}

/// The metamethods of C data.
pub const METHODS: &[NativeRow] = &[
    NativeRow::new("ffi.__index", meta_index),
    NativeRow::new("ffi.__newindex", meta_newindex),
    NativeRow::new("ffi.__eq", meta_eq),
    NativeRow::new("ffi.__len", meta_len),
    NativeRow::new("ffi.__lt", meta_lt),
    NativeRow::new("ffi.__le", meta_le),
    NativeRow::new("ffi.__concat", meta_concat),
    NativeRow::new("ffi.__call", meta_call),
    NativeRow::new("ffi.__add", meta_add),
    NativeRow::new("ffi.__sub", meta_sub),
    NativeRow::new("ffi.__mul", meta_mul),
    NativeRow::new("ffi.__div", meta_div),
    NativeRow::new("ffi.__mod", meta_mod),
    NativeRow::new("ffi.__pow", meta_pow),
    NativeRow::new("ffi.__unm", meta_unm),
    NativeRow::new("ffi.__tostring", meta_tostring),
    NativeRow::new("ffi.__pairs", meta_pairs),
    NativeRow::new("ffi.__ipairs", meta_ipairs),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_an_even_number_of_digits() {
        assert_eq!(pointer_text(0), "NULL");
        assert_eq!(pointer_text(5), "0x00000005");
        assert_eq!(pointer_text(0x1_2345_6789), "0x0123456789");
        assert_eq!(pointer_text(usize::MAX), "0xffffffffffffffff");
    }
}
