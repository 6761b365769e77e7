//! Initialisers: `ffi.new("struct s", ...)`, nested tables, strings into arrays.

use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;

use super::ConvertError;
use super::c_to_c::Flags;
use super::to_c::{bits_to_c, to_c};
use crate::cdata::{access, as_cdata, place};
use crate::ctype::{CTypeId, CTypeTable, Field, Kind};
use crate::state::Ffi;

/// Whether a single initialiser for an aggregate is the value of its first element rather than of the whole.
pub fn is_value_initializer(vm: &Vm, types: &CTypeTable, ty: CTypeId, v: Value) -> bool {
    let is_record = match types.kind(ty) {
        Kind::Record(_) => true,
        Kind::Array { .. } => false,
        _ => return false,
    };
    if v.as_obj::<Table>().is_some() || (v.as_obj::<Str>().is_some() && !is_record) {
        return false;
    }
    match as_cdata(v) {
        Some(cd) => types.kind(place(vm, types, cd).ty) != types.kind(ty),
        None => true,
    }
}

/// Initialises the fresh, zero-filled object of type `ty` and `size` bytes at `dst` from `values`.
pub fn init(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    ty: CTypeId,
    size: u32,
    dst: usize,
    values: &[Value],
) -> Result<(), ConvertError> {
    let flags = Flags { end: Some(dst + size as usize), ..Flags::default() };
    match values {
        [] => Ok(()),
        [one] if !is_value_initializer(vm, types, ty, *one) => to_c(vm, ffi, types, ty, dst, *one, flags),
        _ => match types.kind(ty) {
            Kind::Array { elem, .. } => array_from_values(vm, ffi, types, (ty, elem), size, dst, values),
            Kind::Vector { elem, .. } if values.len() > 1 => {
                array_from_values(vm, ffi, types, (ty, elem), size, dst, values)
            }
            Kind::Complex { bytes } if values.len() == 2 => {
                let part = if bytes == 8 { CTypeId::FLOAT } else { CTypeId::DOUBLE };
                for (i, v) in values.iter().enumerate() {
                    to_c(vm, ffi, types, part, dst + i * usize::from(bytes / 2), *v, Flags::default())?;
                }
                Ok(())
            }
            Kind::Record(_) => {
                let mut next = 0;
                record_from_values(vm, ffi, types, ty, dst, values, &mut next, flags)?;
                if next < values.len() { Err(ConvertError::too_many(types, ty)) } else { Ok(()) }
            }
            _ if values.len() == 1 => to_c(vm, ffi, types, ty, dst, values[0], Flags::default()),
            _ => Err(ConvertError::too_many(types, ty)),
        },
    }
}

fn array_from_values(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    (ty, elem): (CTypeId, CTypeId),
    size: u32,
    dst: usize,
    values: &[Value],
) -> Result<(), ConvertError> {
    let elem_size = types.size(elem).unwrap_or(0) as usize;
    let size = size as usize;
    if values.len().checked_mul(elem_size).is_none_or(|n| n > size) {
        return Err(ConvertError::too_many(types, ty));
    }
    for (i, v) in values.iter().enumerate() {
        to_c(vm, ffi, types, elem, dst + i * elem_size, *v, Flags::default())?;
    }
    if values.len() == 1 {
        replicate(dst, elem_size, size);
    }
    Ok(())
}

/// Copies the first element over the rest.
fn replicate(dst: usize, elem_size: usize, size: usize) {
    if elem_size == 0 {
        return;
    }
    let mut done = elem_size;
    while done < size {
        let n = done.min(size - done);
        access::copy(dst + done, dst, n);
        done += n;
    }
}

pub(super) fn array_from_table(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    ty: CTypeId,
    dst: usize,
    t: Gc<Table>,
    flags: Flags,
) -> Result<(), ConvertError> {
    let elem = match types.kind(ty) {
        Kind::Array { elem, .. } | Kind::Vector { elem, .. } => elem,
        Kind::Complex { bytes: 8 } => CTypeId::FLOAT,
        _ => CTypeId::DOUBLE,
    };
    let elem_size = types.size(elem).unwrap_or(0) as usize;
    let size = types.size(ty).map(|n| n as usize);
    let mut offset = 0;
    for i in 0i64.. {
        let v = t.geti(&vm.heap, i);
        if v.is_nil() {
            if i == 0 {
                continue;
            }
            break;
        }
        let beyond = |end: usize| dst + offset + elem_size > end;
        if size.is_some_and(|size| offset >= size) || (size.is_none() && flags.end.is_some_and(beyond)) {
            return Err(ConvertError::too_many(types, ty));
        }
        to_c(vm, ffi, types, elem, dst + offset, v, flags)?;
        offset += elem_size;
    }
    if let Some(size) = size {
        if offset == elem_size {
            replicate(dst, elem_size, size);
        } else {
            access::fill(dst + offset, size.saturating_sub(offset), 0);
        }
    }
    Ok(())
}

/// Fields of a record in declaration order.
fn fields(types: &CTypeTable, ty: CTypeId) -> (&[Field], bool) {
    match types.record(ty) {
        Some(r) => (&r.fields, r.is_union),
        None => (&[], false),
    }
}

fn store_field(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    field: &Field,
    base: usize,
    v: Value,
    flags: Flags,
) -> Result<(), ConvertError> {
    let addr = base + field.offset as usize;
    match field.bits {
        Some(bits) => bits_to_c(vm, ffi, types, field.ty, addr, bits, v),
        None => to_c(vm, ffi, types, field.ty, addr, v, flags),
    }
}

#[allow(clippy::too_many_arguments)]
fn record_from_values(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    ty: CTypeId,
    dst: usize,
    values: &[Value],
    next: &mut usize,
    flags: Flags,
) -> Result<(), ConvertError> {
    let (fields, is_union) = fields(types, ty);
    for field in fields {
        if field.name.is_some() {
            let Some(v) = values.get(*next) else { break };
            *next += 1;
            store_field(vm, ffi, types, field, dst, *v, flags)?;
        } else if types.record(field.ty).is_some() {
            record_from_values(vm, ffi, types, field.ty, dst + field.offset as usize, values, next, flags)?;
        } else {
            continue;
        }
        if is_union {
            break;
        }
    }
    Ok(())
}

pub(super) fn record_from_table(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    ty: CTypeId,
    dst: usize,
    t: Gc<Table>,
    flags: Flags,
) -> Result<(), ConvertError> {
    access::fill(dst, types.size(ty).unwrap_or(0) as usize, 0);
    let mut next = Some(0);
    fields_from_table(vm, ffi, types, ty, dst, t, &mut next, flags)
}

/// `next` is the next positional index, or `None` once names decide.
#[allow(clippy::too_many_arguments)]
fn fields_from_table(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    ty: CTypeId,
    dst: usize,
    t: Gc<Table>,
    next: &mut Option<i64>,
    flags: Flags,
) -> Result<(), ConvertError> {
    let (fields, is_union) = fields(types, ty);
    for field in fields {
        let Some(name) = &field.name else {
            if types.record(field.ty).is_some() {
                fields_from_table(vm, ffi, types, field.ty, dst + field.offset as usize, t, next, flags)?;
            }
            continue;
        };
        let mut found = Value::NIL;
        if let Some(at) = *next {
            let mut i = at;
            found = t.geti(&vm.heap, i);
            if found.is_nil() && at == 0 {
                i = 1;
                found = t.geti(&vm.heap, i);
            }
            if !found.is_nil() {
                *next = Some(i + 1);
            } else if at == 0 {
                *next = None;
            } else {
                // The list has ended.
                break;
            }
        }
        if next.is_none() {
            found = t.get_bytes(&vm.heap, name);
            if found.is_nil() {
                continue;
            }
        }
        store_field(vm, ffi, types, field, dst, found, flags)?;
        if is_union {
            break;
        }
    }
    Ok(())
}
