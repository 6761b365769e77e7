//! Making C data objects.

use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

use super::{access, raw_place};
use crate::ctype::{CTypeId, CTypeTable};

/// A zero-filled object of `bytes` bytes at the alignment of its type.
#[inline]
pub fn new_object(vm: &mut Vm, types: &CTypeTable, ty: CTypeId, bytes: u32) -> Gc<Cdata> {
    let align = 1usize << types.layout(ty).align_log2;
    vm.heap.new_cdata(ty.raw(), bytes as usize, align)
}

/// An object with a copy of `bytes` bytes at `from`.
#[inline]
pub fn new_bytes(vm: &mut Vm, types: &CTypeTable, ty: CTypeId, from: usize, bytes: u32) -> Value {
    let cd = new_object(vm, types, ty, bytes);
    access::copy(raw_place(vm, cd).addr, from, bytes as usize);
    Value::obj(cd)
}

/// A boxed integer of 8 bytes (or the low bytes of a smaller one).
#[inline]
pub fn new_scalar(vm: &mut Vm, ty: CTypeId, bytes: u8, value: u64) -> Value {
    let cd = vm.heap.new_cdata(ty.raw(), usize::from(bytes), usize::from(bytes));
    access::store_int(raw_place(vm, cd).addr, bytes, value);
    Value::obj(cd)
}

/// A pointer or reference object.
#[inline]
pub fn new_pointer(vm: &mut Vm, ty: CTypeId, value: usize) -> Value {
    new_scalar(vm, ty, 8, value as u64)
}

/// The object that `ffi.typeof` returns for a type.
pub fn new_type_object(vm: &mut Vm, ty: CTypeId) -> Value {
    new_scalar(vm, CTypeId::CTYPEID, 4, u64::from(ty.raw()))
}
