//! C data objects: what they carry, how they are made, how their bytes are read and written.

pub mod access;
mod alloc;

pub use alloc::{new_bytes, new_object, new_pointer, new_scalar, new_type_object};

use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

use crate::ctype::{CTypeId, CTypeTable, Kind};

/// A C object somewhere in memory: of a C data object, or behind a pointer in one.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its type.
    pub ty: CTypeId,
    /// Where it lies.
    pub addr: usize,
}

/// The C data object a value is, if it is one.
#[inline]
pub fn as_cdata(v: Value) -> Option<Gc<Cdata>> {
    v.as_obj::<Cdata>()
}

/// Type and payload of an object, as they are.
#[inline]
pub fn raw_place(vm: &Vm, cd: Gc<Cdata>) -> Place {
    let object = cd.get(&vm.heap);
    Place { ty: CTypeId::from_raw(object.ctypeid()), addr: object.data_ptr() as usize }
}

/// Type and place of the C object that an object stands for: a reference is followed.
#[inline]
pub fn place(vm: &Vm, types: &CTypeTable, cd: Gc<Cdata>) -> Place {
    let place = raw_place(vm, cd);
    match types.kind(place.ty) {
        Kind::Ref { to } => Place { ty: to, addr: access::load_pointer(place.addr, 8) },
        _ => place,
    }
}

/// The type that a type object names.
pub fn type_object(vm: &Vm, cd: Gc<Cdata>) -> Option<CTypeId> {
    let place = raw_place(vm, cd);
    (place.ty == CTypeId::CTYPEID).then(|| CTypeId::from_raw(access::load_uint(place.addr, 4) as u32))
}
