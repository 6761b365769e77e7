//! Metatables and metamethods of any value. Calls nothing.

use crate::bytecode::ops::Mm;
use crate::cell::gc_ref::Gc;
use crate::state::Vm;
use crate::table::Table;
use crate::userdata::Userdata;
use crate::value::{Value, tag};

/// Index of a type in [`Vm::base_meta`].
#[inline(always)]
pub const fn type_index(v: Value) -> usize {
    if v.is_num() { !tag::NUMX as usize } else { !v.tag() as usize & 15 }
}

impl Vm {
    /// The metatable of a value, whatever its type.
    #[inline]
    pub fn metatable_of(&self, v: Value) -> Option<Gc<Table>> {
        if let Some(t) = v.as_obj::<Table>() {
            return t.get(&self.heap).meta;
        }
        if let Some(u) = v.as_obj::<Userdata>() {
            return u.get(&self.heap).meta;
        }
        self.base_meta[type_index(v)]
    }

    /// Sets the metatable all values of `v`'s type share (not for tables and full userdata).
    pub fn set_base_metatable(&mut self, v: Value, meta: Option<Gc<Table>>) {
        self.base_meta[type_index(v)] = meta;
        if v.is_bool() {
            self.base_meta[!tag::FALSE as usize] = meta;
            self.base_meta[!tag::TRUE as usize] = meta;
        }
    }

    /// A metamethod out of a metatable; `nil` if there is none. Absence of the first few is cached in the table.
    #[inline]
    pub fn meta_field(&mut self, mt: Gc<Table>, mm: Mm) -> Value {
        let fast = (mm as u8) < Mm::FAST_COUNT;
        if fast && mt.get(&self.heap).hdr.flags & 1 << mm as u8 != 0 {
            return Value::NIL;
        }
        let name = self.mm_names[mm as usize];
        let v = mt.gets(&self.heap, name);
        if v.is_nil() && fast {
            mt.get_mut(&mut self.heap).hdr.flags |= 1 << mm as u8;
        }
        v
    }

    /// The metamethod of a value; `nil` if there is none.
    #[inline]
    pub fn metamethod(&mut self, v: Value, mm: Mm) -> Value {
        match self.metatable_of(v) {
            Some(mt) => self.meta_field(mt, mm),
            None => Value::NIL,
        }
    }
}
