//! Lua value to C object.

use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::userdata::Userdata;
use moonlit_vm::value::{Value, tag};

use super::c_to_c::{Flags, c_to_c};
use super::number::{num_to_i64, num_to_u64};
use super::{ConvertError, init};
use crate::cdata::{access, as_cdata, place};
use crate::clib::standard_file;
use crate::ctype::{BitRange, CTypeId, CTypeTable, Kind};
use crate::state::{CallbackError, Ffi};

/// Converts `v` into the object of type `to` at `dst`.
///
/// A table goes only into an array, struct or union; a Lua function into a function pointer becomes a callback that stays until
/// it is freed. A string's bytes are not copied into a pointer: the string must live as long as the pointer is used.
#[inline]
pub fn to_c(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    to: CTypeId,
    dst: usize,
    v: Value,
    flags: Flags,
) -> Result<(), ConvertError> {
    if let Some(n) = v.as_num() {
        // The common cases without a detour.
        match types.kind(to) {
            Kind::Float { bytes: bytes @ (4 | 8) } => {
                access::store_float(dst, bytes, n);
                return Ok(());
            }
            Kind::Int { bytes: 8, unsigned: true } => {
                access::store_int(dst, 8, num_to_u64(n));
                return Ok(());
            }
            Kind::Int { bytes: bytes @ 1..=8, .. } => {
                access::store_int(dst, bytes, num_to_i64(n) as u64);
                return Ok(());
            }
            _ => {}
        }
        let src = n.to_ne_bytes();
        return c_to_c(
            types,
            to,
            dst,
            CTypeId::DOUBLE,
            src.as_ptr() as usize,
            Flags { from_lua: true, ..flags },
        );
    }
    to_c_other(vm, ffi, types, to, dst, v, flags)
}

fn to_c_other(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    to: CTypeId,
    dst: usize,
    v: Value,
    flags: Flags,
) -> Result<(), ConvertError> {
    let refused = || ConvertError::cannot(types, v.type_name(), to);
    let pointer = |address: usize, from_lua: bool| {
        let src = address.to_ne_bytes();
        c_to_c(types, to, dst, CTypeId::P_VOID, src.as_ptr() as usize, Flags { from_lua, ..flags })
    };
    if let Some(cd) = as_cdata(v) {
        let p = place(vm, types, cd);
        let aggregate = |id| matches!(types.kind(id), Kind::Record(_) | Kind::Array { .. });
        if access::is_null(p.addr) && (!aggregate(p.ty) || aggregate(to)) {
            // The address of an aggregate is not followed, everything else is.
            return Err(ConvertError::Other(b"attempt to access memory through a NULL pointer".to_vec()));
        }
        // A function object holds the function's address.
        let src = match types.kind(p.ty) {
            Kind::Func(_) => access::load_pointer(p.addr, 8),
            _ => p.addr,
        };
        return c_to_c(types, to, dst, p.ty, src, flags);
    }
    if let Some(s) = v.as_obj::<Str>() {
        let bytes = s.bytes(&vm.heap);
        if let Some(e) = types.enumeration(to) {
            let value = *e.consts.get(bytes).ok_or_else(refused)?;
            access::store_int(dst, 4, value as u64);
            return Ok(());
        }
        if let Kind::Array { elem, .. } = types.kind(to) {
            if !matches!(types.kind(elem), Kind::Int { bytes: 1, .. }) {
                return Err(refused());
            }
            // The terminating zero goes along if there is room.
            let with_zero = bytes.len() + 1;
            let room = match (types.size(to), flags.end) {
                (Some(size), _) if size != 0 => size as usize,
                (_, Some(end)) => end.saturating_sub(dst),
                _ => with_zero,
            };
            access::copy(dst, bytes.as_ptr() as usize, with_zero.min(room));
            return Ok(());
        }
        let flags = Flags { from_lua: true, ..flags };
        return c_to_c(types, to, dst, CTypeId::A_CCHAR, bytes.as_ptr() as usize, flags);
    }
    if let Some(t) = v.as_obj::<Table>() {
        return match types.kind(to) {
            Kind::Array { .. } | Kind::Vector { .. } | Kind::Complex { .. } => {
                init::array_from_table(vm, ffi, types, to, dst, t, flags)
            }
            Kind::Record(_) => init::record_from_table(vm, ffi, types, to, dst, t, flags),
            _ => Err(refused()),
        };
    }
    if v.is_bool() {
        let byte = [u8::from(v == Value::TRUE)];
        return c_to_c(types, to, dst, CTypeId::BOOL, byte.as_ptr() as usize, flags);
    }
    if v.is_nil() {
        return pointer(0, true);
    }
    if let Some(u) = v.as_obj::<Userdata>() {
        if let Some(file) = moonlit_vm::lib::io::standard_stream(vm, v).and_then(standard_file) {
            return pointer(file, false);
        }
        let object = u.get(&vm.heap);
        // What Rust keeps in an object means nothing to C.
        return if object.type_id == 0 { pointer(object.data_ptr() as usize, false) } else { Err(refused()) };
    }
    if v.tag() == tag::LIGHTUD {
        return pointer(vm.lightud_addr(v) as usize, false);
    }
    if v.tag() == tag::FUNC {
        let make = ffi.make_callback.get();
        if let (Kind::Ptr { to: target, .. }, Some(make)) = (types.kind(to), make)
            && let Kind::Func(_) = types.kind(target)
        {
            return match make(vm, ffi, target, v) {
                Ok(address) => {
                    access::store_pointer(dst, 8, address);
                    Ok(())
                }
                Err(CallbackError::TooMany) => Err(ConvertError::Other(b"too many callbacks".to_vec())),
                Err(CallbackError::NotSupported) => Err(refused()),
            };
        }
    }
    Err(refused())
}

/// Converts `v` into a bit field.
pub fn bits_to_c(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    ty: CTypeId,
    addr: usize,
    bits: BitRange,
    v: Value,
) -> Result<(), ConvertError> {
    let mut word = [0u8; 8];
    let word_addr = word.as_mut_ptr() as usize;
    to_c(vm, ffi, types, ty, word_addr, v, Flags::default())?;
    access::store_bits(addr, bits, access::load_uint(word_addr, 8));
    Ok(())
}
