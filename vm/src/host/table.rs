//! Table handles.

use std::fmt;

use super::convert::{FromLua, IntoLua};
use super::error::{Error, Result};
use super::glue;
use super::lua::Ref;
use super::value::Value;
use crate::error::messages;
use crate::state::Vm;
use crate::table::{Table as RawTable, TableErr};
use crate::value::Value as Raw;

/// A handle to a table.
#[derive(Clone)]
pub struct Table(pub(super) Ref);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("table")
    }
}

impl Table {
    fn raw_table(&self, vm: &Vm) -> crate::cell::gc_ref::Gc<RawTable> {
        self.0.raw_in(vm).as_obj().expect("a table handle roots a table")
    }

    /// `t[key]`, with metamethods.
    pub fn get<V: FromLua>(&self, key: impl IntoLua) -> Result<V> {
        let lua = &self.0.lua;
        let key = key.into_lua(lua)?;
        let k = key.to_raw(lua)?;
        let out = match lua.with(|vm| self.raw_table(vm).get(&vm.heap).meta.is_none()) {
            true => lua.with(|vm| self.raw_table(vm).getv(&vm.heap, k)),
            false => {
                let index = lua.with(glue::index_function);
                let out = lua.call_raw(index, &[self.0.raw(), k])?;
                out.first().copied().unwrap_or(Raw::NIL)
            }
        };
        V::from_lua(lua.value(out), lua)
    }

    /// `t[key] = value`, with metamethods.
    pub fn set(&self, key: impl IntoLua, value: impl IntoLua) -> Result<()> {
        let lua = &self.0.lua;
        let (key, value) = (key.into_lua(lua)?, value.into_lua(lua)?);
        let (k, v) = (key.to_raw(lua)?, value.to_raw(lua)?);
        if lua.with(|vm| self.raw_table(vm).get(&vm.heap).meta.is_none()) {
            return self.set_raw(k, v);
        }
        let newindex = lua.with(glue::newindex_function);
        lua.call_raw(newindex, &[self.0.raw(), k, v]).map(|_| ())
    }

    fn set_raw(&self, k: Raw, v: Raw) -> Result<()> {
        self.0.lua.with(|vm| {
            let t = self.raw_table(vm);
            t.setv(&mut vm.heap, k, v).map_err(table_error)
        })
    }

    /// `rawget(t, key)`.
    pub fn raw_get<V: FromLua>(&self, key: impl IntoLua) -> Result<V> {
        let lua = &self.0.lua;
        let key = key.into_lua(lua)?;
        let k = key.to_raw(lua)?;
        let out = lua.with(|vm| self.raw_table(vm).getv(&vm.heap, k));
        V::from_lua(lua.value(out), lua)
    }

    /// `rawset(t, key, value)`.
    pub fn raw_set(&self, key: impl IntoLua, value: impl IntoLua) -> Result<()> {
        let lua = &self.0.lua;
        let (key, value) = (key.into_lua(lua)?, value.into_lua(lua)?);
        self.set_raw(key.to_raw(lua)?, value.to_raw(lua)?)
    }

    /// `#t`, without metamethods.
    pub fn raw_len(&self) -> usize {
        self.0.lua.with(|vm| self.raw_table(vm).len(&vm.heap) as usize)
    }

    /// Appends behind the border.
    pub fn push(&self, value: impl IntoLua) -> Result<()> {
        self.raw_set(self.raw_len() as f64 + 1.0, value)
    }

    /// Iterates over all pairs as `next` does.
    pub fn pairs<K: FromLua, V: FromLua>(&self) -> TablePairs<K, V> {
        TablePairs { table: self.clone(), key: Some(Value::Nil), _types: std::marker::PhantomData }
    }

    /// Sets the metatable.
    pub fn set_metatable(&self, meta: Option<Table>) -> Result<()> {
        let lua = &self.0.lua;
        let m = meta.map(|m| m.0.raw_for(lua)).transpose()?;
        lua.with(|vm| {
            let t = self.raw_table(vm);
            vm.heap.set_metatable(t, m.and_then(|m| m.as_obj()));
        });
        Ok(())
    }
}

/// Iterator made by [`Table::pairs`].
pub struct TablePairs<K, V> {
    table: Table,
    key: Option<Value>,
    _types: std::marker::PhantomData<(K, V)>,
}

impl<K: FromLua, V: FromLua> Iterator for TablePairs<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let lua = self.table.0.lua.clone();
        let key = match self.key.take()?.to_raw(&lua) {
            Ok(k) => k,
            Err(e) => return Some(Err(e)),
        };
        let found = lua.with(|vm| self.table.raw_table(vm).next(&vm.heap, key));
        match found {
            Ok(Some((k, v))) => {
                let key = lua.value(k);
                self.key = Some(key.clone());
                Some(K::from_lua(key, &lua).and_then(|k| Ok((k, V::from_lua(lua.value(v), &lua)?))))
            }
            Ok(None) => None,
            Err(_) => Some(Err(Error::runtime("invalid key to 'next'"))),
        }
    }
}

fn table_error(e: TableErr) -> Error {
    match e {
        TableErr::NilIndex => Error::runtime(messages::INDEX_NIL),
        TableErr::NanIndex => Error::runtime(messages::INDEX_NAN),
        TableErr::Overflow => Error::runtime(messages::TABLE_OVERFLOW),
        TableErr::Memory => Error::MemoryError(messages::NO_MEMORY.to_string()),
    }
}
