//! `cd[key]` and `cd[key] = value`.

use moonlit_vm::cdata::{self as vm_cdata, Cdata, Where};
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::value::Value;

use crate::cdata::access::{self, Scalar};
use crate::cdata::{as_cdata, place, raw_place, type_object};
use crate::convert::{self, ConvertError, Flags};
use crate::ctype::{BitRange, CTypeId, CTypeTable, Constant, Kind, Member};
use crate::state::Ffi;

/// The message for an access through NULL.
pub const NULL_FOLLOWED: &[u8] = b"attempt to access memory through a NULL pointer";

/// What a key leads to.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// A C object.
    Place {
        /// Its type.
        ty: CTypeId,
        /// Where it lies.
        addr: usize,
        /// Set for a bit field.
        bits: Option<BitRange>,
        /// Whether it must not be written.
        read_only: bool,
    },
    /// A constant.
    Const(Constant),
    /// Nothing: ask the metatype of this type, and name it if there is none.
    Missing(CTypeId),
    /// An element of a type without a size.
    UnknownSize,
    /// Something that only following NULL could tell.
    Null,
}

/// An integer key: a number, or an integer or enum object.
#[inline]
fn integer_key(vm: &Vm, types: &CTypeTable, key: Value) -> Option<i64> {
    if let Some(n) = key.as_num() {
        return Some(convert::num_to_i64(n));
    }
    let p = place(vm, types, as_cdata(key)?);
    if access::is_null(p.addr) {
        return None;
    }
    let kind = match types.enumeration(p.ty) {
        Some(e) => types.kind(e.base),
        None => types.kind(p.ty),
    };
    match (kind, access::load_scalar(kind, p.addr)?) {
        (Kind::Int { .. }, Scalar::Int(v)) => Some(v),
        (Kind::Int { .. }, Scalar::Uint(v)) => Some(v as i64),
        _ => None,
    }
}

/// Finds what `key` means in an object.
#[inline]
pub fn find(vm: &Vm, ffi: &Ffi, types: &CTypeTable, cd: Gc<Cdata>, key: Value) -> Found {
    let at = place(vm, types, cd);
    if let Some(s) = key.as_obj::<Str>() {
        return find_name(vm, ffi, types, cd, at.ty, at.addr, s);
    }
    let Some(i) = integer_key(vm, types, key) else { return Found::Missing(at.ty) };
    if access::is_null(at.addr) && !matches!(types.kind(at.ty), Kind::Array { .. }) {
        return Found::Null;
    }
    let (elem, base) = match types.kind(at.ty) {
        Kind::Ptr { to, bytes } => (to, access::load_pointer(at.addr, bytes)),
        Kind::Array { elem, .. } => (elem, at.addr),
        Kind::Complex { bytes } => {
            // Any index names one of the two parts.
            let ty = if bytes == 8 { CTypeId::FLOAT } else { CTypeId::DOUBLE };
            let addr = at.addr + usize::from(bytes / 2) * (i & 1) as usize;
            return Found::Place { ty, addr, bits: None, read_only: true };
        }
        Kind::Vector { elem, bytes } => {
            let size = types.size(elem).unwrap_or(bytes).max(1);
            if i < 0 || i >= i64::from(bytes / size) {
                return Found::Missing(at.ty);
            }
            return Found::Place {
                ty: elem,
                addr: at.addr + (size as usize) * i as usize,
                bits: None,
                read_only: true,
            };
        }
        _ => return Found::Missing(at.ty),
    };
    let Some(size) = types.size(elem) else { return Found::UnknownSize };
    let addr = base.wrapping_add((i as usize).wrapping_mul(size as usize));
    Found::Place { ty: elem, addr, bits: None, read_only: types.is_read_only(elem) }
}

fn find_name(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    cd: Gc<Cdata>,
    ty: CTypeId,
    addr: usize,
    name: Gc<Str>,
) -> Found {
    let bytes = name.bytes(&vm.heap);
    let (mut ty, mut addr) = (ty, addr);
    if let Kind::Ptr { to, bytes } = types.kind(ty) {
        // `->` is written as a dot. Only for pointers to records.
        if let Kind::Record(_) = types.kind(to) {
            if access::is_null(addr) {
                return Found::Null;
            }
            addr = access::load_pointer(addr, bytes);
            ty = to;
        }
    }
    match types.kind(ty) {
        Kind::Record(_) => match ffi.member(types, ty, name.addr(), bytes) {
            Some((Member::Field { ty: field, offset, bits }, read_only)) => {
                Found::Place { ty: field, addr: addr.wrapping_add(offset as usize), bits, read_only }
            }
            Some((Member::Const(c), _)) => Found::Const(c),
            None => Found::Missing(ty),
        },
        Kind::Complex { bytes: size } => {
            let part = match bytes {
                b"re" => 0,
                b"im" => usize::from(size / 2),
                _ => return Found::Missing(ty),
            };
            let part_ty = if size == 8 { CTypeId::FLOAT } else { CTypeId::DOUBLE };
            Found::Place { ty: part_ty, addr: addr + part, bits: None, read_only: true }
        }
        Kind::Enum(_) if ty == CTypeId::CTYPEID => {
            // Constants scoped in a struct or union, by its type or by that of a pointer to it.
            let named = type_object(vm, cd).unwrap_or(ty);
            let scope = match types.kind(named) {
                Kind::Ptr { to, .. } | Kind::Ref { to } => to,
                _ => named,
            };
            match types.member(scope, bytes) {
                Some(Member::Const(c)) => Found::Const(c),
                _ => Found::Missing(named),
            }
        }
        _ => Found::Missing(ty),
    }
}

/// The value of a constant.
pub fn constant_value(c: Constant) -> Value {
    Value::num(c.value as f64)
}

/// Whether reading this place would follow NULL. A reference to an aggregate follows nothing yet.
#[inline]
fn follows_null(ffi: &Ffi, ty: CTypeId, addr: usize) -> bool {
    access::is_null(addr) && !matches!(ffi.types.borrow().kind(ty), Kind::Record(_) | Kind::Array { .. })
}

/// Reads what was found; `None` for what was not.
#[inline]
pub fn load(vm: &mut Vm, ffi: &Ffi, found: Found) -> Option<Value> {
    match found {
        Found::Place { ty, addr, .. } if follows_null(ffi, ty, addr) => None,
        Found::Place { ty, addr, bits: None, .. } => Some(convert::from_c(vm, ffi, ty, addr)),
        Found::Place { ty, addr, bits: Some(bits), .. } => {
            Some(convert::bits_from_c(vm, ffi, ty, addr, bits))
        }
        Found::Const(c) => Some(constant_value(c)),
        Found::Missing(_) | Found::UnknownSize | Found::Null => None,
    }
}

/// Writes to a found place. The place must not be read-only.
#[inline]
pub fn store(
    vm: &Vm,
    ffi: &Ffi,
    types: &CTypeTable,
    (ty, addr, bits): (CTypeId, usize, Option<BitRange>),
    v: Value,
) -> Result<(), ConvertError> {
    if access::is_null(addr) {
        return Err(ConvertError::Other(NULL_FOLLOWED.to_vec()));
    }
    match bits {
        None => match types.kind(ty) {
            // Writing through a reference member writes what it refers to.
            Kind::Ref { to } => {
                convert::to_c(vm, ffi, types, to, access::load_pointer(addr, 8), v, Flags::default())
            }
            _ => convert::to_c(vm, ffi, types, ty, addr, v, Flags::default()),
        },
        Some(bits) => convert::bits_to_c(vm, ffi, types, ty, addr, bits, v),
    }
}

/// What a type is for the interpreter's fast paths; `bytes` is the distance that goes with it.
fn elem(types: &CTypeTable, ty: CTypeId, bytes: u32) -> vm_cdata::Elem {
    use vm_cdata::Scalar;
    let mut made = ty;
    let scalar = match types.kind(ty) {
        Kind::Bool => Scalar::Bool,
        Kind::Int { bytes: 1, unsigned } => {
            if unsigned {
                Scalar::U8
            } else {
                Scalar::I8
            }
        }
        Kind::Int { bytes: 2, unsigned } => {
            if unsigned {
                Scalar::U16
            } else {
                Scalar::I16
            }
        }
        Kind::Int { bytes: 4, unsigned } => {
            if unsigned {
                Scalar::U32
            } else {
                Scalar::I32
            }
        }
        Kind::Int { bytes: 8, unsigned } => {
            if unsigned {
                Scalar::U64
            } else {
                Scalar::I64
            }
        }
        Kind::Float { bytes: 4 } => Scalar::F32,
        Kind::Float { bytes: 8 } => Scalar::F64,
        Kind::Ptr { bytes: 8, .. } => Scalar::Ptr,
        Kind::Record(_) | Kind::Array { .. } => match types.known_ref(ty) {
            Some(reference) => {
                made = reference;
                Scalar::Ref
            }
            None => Scalar::None,
        },
        _ => Scalar::None,
    };
    vm_cdata::Elem { scalar, read_only: types.is_read_only(ty), bytes, ctypeid: made.raw() }
}

/// Tells the interpreter what `key` means in objects of the type of `cd`, where it has just led to `found`.
pub fn remember(vm: &mut Vm, ffi: &Ffi, cd: Gc<Cdata>, key: Value, found: Found) {
    let Found::Place { ty, addr, bits: None, read_only } = found else { return };
    let types = ffi.types.borrow();
    let own = raw_place(vm, cd);
    let inside = match types.kind(own.ty) {
        Kind::Ref { to } | Kind::Ptr { to, bytes: 8 } => Some(to),
        _ => None,
    };
    let at = if inside.is_some() { Where::Behind } else { Where::Inline };
    let target = types.kind(inside.unwrap_or(own.ty));
    if key.is_num() {
        // A pointer's elements lie behind it, and so do those of an array behind a reference.
        let indexed = match (types.kind(own.ty), target) {
            (Kind::Ptr { .. }, _) | (Kind::Ref { .. } | Kind::Array { .. }, Kind::Array { .. }) => true,
            _ => false,
        };
        let Some(size) = types.size(ty).filter(|_| indexed) else { return };
        let elem = elem(&types, ty, size);
        if elem.scalar != vm_cdata::Scalar::None {
            vm.cdata_shapes.remember_indexed(own.ty.raw(), vm_cdata::Indexed { at, elem });
        }
    } else if key.as_obj::<Str>().is_some() && matches!(target, Kind::Record(_)) {
        let start = if at == Where::Behind { access::load_pointer(own.addr, 8) } else { own.addr };
        let mut elem = elem(&types, ty, addr.wrapping_sub(start) as u32);
        elem.read_only |= read_only;
        if elem.scalar != vm_cdata::Scalar::None {
            let ctypeid = own.ty.raw();
            vm.cdata_shapes.remember_named(vm_cdata::Named { key: key.0, ctypeid, at, elem });
        }
    }
}

/// Type of an object without following a reference.
pub fn own_type(vm: &Vm, cd: Gc<Cdata>) -> CTypeId {
    raw_place(vm, cd).ty
}
