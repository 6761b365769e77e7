//! C object to Lua value.

use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

use crate::cdata::{access, new_bytes, new_pointer, new_scalar};
use crate::ctype::{BitRange, CTypeId, Kind};
use crate::state::Ffi;

/// The Lua value of the C object of type `ty` at `addr`.
///
/// Numbers up to 32 bits and floats become numbers, `bool` a boolean; arrays, structs and unions a reference to the object;
/// everything else a copy of the object. A reference is followed.
#[inline]
pub fn from_c(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, addr: usize) -> Value {
    let kind = ffi.types.borrow().kind(ty);
    match kind {
        Kind::Int { bytes: bytes @ (1 | 2 | 4), unsigned: false } => {
            Value::int(access::load_int(addr, bytes) as i32)
        }
        Kind::Int { bytes: bytes @ (1 | 2 | 4), unsigned: true } => {
            Value::num(access::load_uint(addr, bytes) as f64)
        }
        Kind::Float { bytes: bytes @ (4 | 8) } => Value::num(access::load_float(addr, bytes)),
        Kind::Bool => Value::bool(access::load_uint(addr, 1) != 0),
        Kind::Int { bytes: 8, .. } => new_scalar(vm, ty, 8, access::load_uint(addr, 8)),
        Kind::Ptr { bytes: 8, .. } => new_pointer(vm, ty, access::load_pointer(addr, 8)),
        Kind::Record(_) | Kind::Array { .. } => {
            let known = ffi.types.borrow().known_ref(ty);
            let reference = known.unwrap_or_else(|| ffi.types.borrow_mut().ref_to(ty));
            new_pointer(vm, reference, addr)
        }
        Kind::Ref { to } => {
            // A reference to a reference cannot be made, so this ends.
            from_c(vm, ffi, to, access::load_pointer(addr, 8))
        }
        Kind::Func(_) => new_pointer(vm, ty, addr),
        Kind::Void => Value::NIL,
        Kind::Int { .. }
        | Kind::Float { .. }
        | Kind::Complex { .. }
        | Kind::Vector { .. }
        | Kind::Ptr { .. }
        | Kind::Enum(_) => {
            let types = ffi.types.borrow();
            let size = types.size(ty).unwrap_or(0);
            new_bytes(vm, &types, ty, addr, size)
        }
    }
}

/// The Lua value of a bit field.
pub fn bits_from_c(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, addr: usize, bits: BitRange) -> Value {
    let raw = access::load_bits(addr, bits);
    let shift = 64 - u32::from(bits.width);
    let extended = ((raw << shift) as i64) >> shift;
    let (kind, base) = {
        let types = ffi.types.borrow();
        match types.enumeration(ty) {
            Some(e) => (types.kind(e.base), e.base),
            None => (types.kind(ty), ty),
        }
    };
    match kind {
        Kind::Bool => Value::bool(raw != 0),
        Kind::Int { bytes: 8, unsigned } if bits.width > 32 => {
            new_scalar(vm, base, 8, if unsigned { raw } else { extended as u64 })
        }
        Kind::Int { unsigned: true, .. } => Value::num(raw as f64),
        _ => Value::num(extended as f64),
    }
}
